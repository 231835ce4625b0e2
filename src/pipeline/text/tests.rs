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
