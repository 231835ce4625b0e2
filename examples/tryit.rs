fn main() {
    for f in std::env::args().skip(1) {
        let t = std::fs::read(&f).unwrap();
        let t = String::from_utf8_lossy(&t);
        let start = std::time::Instant::now();
        let (p, problems) = windlass::pipeline::examine(&t, &f, None);
        print!("{problems}");
        println!("{} {} in {:?}", p.is_some(), problems.len(), start.elapsed());
    }
}
