use super::*;

#[test]
fn durations_have_units() {
    for (text, millis) in [
        ("500ms", 500),
        ("5s", 5_000),
        ("15m", 900_000),
        ("2h", 7_200_000),
        ("1h30m", 5_400_000),
        ("1m0s1ms", 60_001),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for bad in [
        "",
        "5",
        "s",
        "5 s",
        "5d",
        "1.5h",
        "-5s",
        "5S",
        "1m1h",
        "1s1s",
        "99999999999999999999s",
        "8761h",
        "٣s",
        "18446744073709551615h",
    ] {
        assert!(duration(bad).is_err(), "{bad}");
    }
    for shown in ["1h30m", "500ms", "1m1s", "8760h"] {
        assert_eq!(show_duration(duration(shown).unwrap()), shown);
    }
}

#[test]
fn shares_of_a_fleet_are_rounded_up() {
    assert_eq!(share("25%").map(|share| share.of(3)), Ok(1));
    assert_eq!(share("50%").map(|share| share.of(3)), Ok(2));
    assert_eq!(share("100%").map(|share| share.of(u32::MAX)), Ok(u32::MAX));
    assert_eq!(share("2").map(|share| share.of(9)), Ok(2));
    for bad in ["", "%", "-1", "1.5", "101%", "many", "99999999999", "5 %"] {
        assert!(share(bad).is_err(), "{bad}");
    }
}

#[test]
fn paths_stay_below_their_directory() {
    for (text, clean) in [
        ("dist/", "dist"),
        ("./a//b/.", "a/b"),
        ("a b", "a b"),
        (".", "."),
        ("..a", "..a"),
        ("a/..b", "a/..b"),
    ] {
        assert_eq!(path(text).as_deref(), Ok(clean), "{text}");
    }
    for bad in ["", " ", "/", "/a", "..", "a/..", "a/../b", "~/x", "a\\b", "a\0b", "a\nb"] {
        assert!(path(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn repositories_have_two_parts() {
    for good in ["acme/storefront", "a/b.c", "acme_corp/_x-1", "a/.github"] {
        assert_eq!(repository(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "acme",
        "acme/",
        "/shop",
        "a/b/c",
        "a/..",
        "a/.",
        "a b/c",
        "a/b.git",
        "a.b/c",
        "https://x/y",
        "a/ü",
    ] {
        assert!(repository(bad).is_err(), "{bad}");
    }
}

#[test]
fn per_cents_have_at_most_two_decimals() {
    let read = |text: &str| per_cent(text).ok();
    assert_eq!(
        ["0", "85", "85.5", "85.05", "100", "100.00", "007"].map(read),
        [Some(0), Some(8_500), Some(8_550), Some(8_505), Some(10_000), Some(10_000), Some(700)]
    );
    for bad in ["", "-1", "101", "100.01", "85.123", "85.", ".5", "85%", "1e1", "99999999999", "42949673"] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn branches_are_names_that_git_takes() {
    for good in ["main", "release/1.0", "feature/a-b_c", "é", "a@b"] {
        assert_eq!(branch(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "a b",
        "a..b",
        "/a",
        "a/",
        "a//b",
        "-a",
        ".a",
        "a/.b",
        "a.lock",
        "a.",
        "@",
        "a@{b",
        "a~1",
        "a:b",
        "a*",
        "a\\b",
        "refs/heads/a",
    ] {
        assert!(branch(bad).is_err(), "{bad}");
    }
}

#[test]
fn time_zones_are_those_of_the_iana() {
    for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Kathmandu"] {
        assert!(timezone(good).is_ok(), "{good}");
    }
    for bad in ["", "Berlin", "local", "+02:00", "Europe/Berlin ", "../UTC"] {
        assert!(timezone(bad).is_err(), "{bad}");
    }
    assert!(timezones().iter().any(|name| name == "Europe/Berlin"));
}

#[test]
fn people_have_plain_names_and_addresses() {
    for good in ["octocat", "jane.doe", "a_b-c", "ada@example.com", "Zoë"] {
        assert_eq!(person(good), Ok(()), "{good}");
    }
    for bad in ["", "policy:x", "a b", "a/b", "a\n"] {
        assert!(person(bad).is_err(), "{bad}");
    }
    assert_eq!(email("12345+octocat@users.noreply.github.com"), Ok(()));
    for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "<a@b>"] {
        assert!(email(bad).is_err(), "{bad}");
    }
    assert_eq!((login("octocat"), login("dependabot[bot]")), (Ok(()), Ok(())));
    for bad in ["", "a b", "[bot]", "a/b"] {
        assert!(login(bad).is_err(), "{bad}");
    }
}

#[test]
fn sizes_have_a_unit() {
    assert_eq!(size("512KiB"), Ok(512 * 1024));
    assert_eq!(size("2GiB"), Ok(2 << 30));
    for wrong in ["", "7", "GiB", "1GB", "1.5GiB", "-1MiB", "+1 MiB", "99999999999999TiB", "1 GiB", "1gib"] {
        assert!(size(wrong).is_err(), "{wrong:?}");
    }
}
