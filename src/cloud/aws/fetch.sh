mkdir -p "$root/var/lib"
get() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsS --connect-timeout 10 --max-time 60 -o "$file" "$url"
  else
    wget -q -T 60 -O "$file" "$url"
  fi
}
tries=0
until get; do
  tries=$((tries + 1))
  if [ "$tries" -ge 150 ]; then
    echo "windlass: the bootstrap script cannot be fetched; does the subnet have a way out to S3?" >&2
    exit 1
  fi
  sleep 2
done
exec sh "$file"
