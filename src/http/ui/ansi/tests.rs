use proptest::prelude::*;

use super::*;

/// What the bytes show, as `class|text` for each span.
fn shown(bytes: &[u8]) -> Vec<String> {
    let (spans, read) = read(&mut Style::default(), bytes, true);
    assert_eq!(read, bytes.len());
    spans.into_iter().map(|span| format!("{}|{}", span.class, span.text)).collect()
}

#[test]
fn colours_and_weights_are_classes() {
    assert_eq!(shown(b"plain \x1b[1;31mred\x1b[0m again"), ["|plain ", "f1 bold|red", "| again"]);
    assert_eq!(shown(b"\x1b[92;44mx\x1b[39my\x1b[49mz"), ["f10 b4|x", "b4|y", "|z"]);
    assert_eq!(shown(b"\x1b[38;5;3mfew\x1b[38;5;200mmany\x1b[38;2;1;2;3mall"), ["f3|few", "|manyall"]);
    assert_eq!(shown(b"\x1b[4;2mx\x1b[24my\x1b[22mz"), ["dim under|x", "dim|y", "|z"]);
    assert_eq!(shown(b"\x1b[31m\x1b[mx"), ["|x"]);
}

#[test]
fn everything_else_is_dropped() {
    for hostile in [
        &b"\x1b[2J\x1b[1;1Hx"[..],
        b"\x1b]0;a title\x07x",
        b"\x1b]8;;http://evil.example\x1b\\x",
        b"\x1bP1$r0m\x1b\\x",
        b"\x1b(Bx",
        b"\x1bcx",
        b"\x1b[?1049hx",
        b"\x1b[99999999999mx",
    ] {
        assert_eq!(shown(hostile), ["|x"], "{}", hostile.escape_ascii());
    }
}

#[test]
fn no_sequence_swallows_the_next_line() {
    for open in ["\x1b]0;title", "\x1bPdata", "\x1b_x", "\x1b[", "\x1b[31", "\x1b(", "\x1b"] {
        let spans = shown(format!("before {open}\nafter").as_bytes());
        assert!(spans.concat().ends_with("\nafter"), "{open:?} {spans:?}");
    }
}

#[test]
fn what_is_no_text_is_made_visible() {
    assert_eq!(shown(b"a\r\nb\rc"), ["|a\nb\nc"]);
    assert_eq!(shown(b"bell\x07"), ["|bell␇"]);
    assert_eq!(shown("x\u{202e}y\u{9b}31m".as_bytes()), ["|x‹U+202E›y‹U+009B›31m"]);
    assert_eq!(shown(b"\xff\xfe ok"), ["|\u{fffd}\u{fffd} ok"]);
}

#[test]
fn a_style_is_packed_and_unpacked() {
    let mut style = Style::default();
    read(&mut style, b"\x1b[1;4;97;107m", false);
    assert_eq!(Style::unpack(style.pack()), style);
    assert_eq!(style.classes(), "f15 b15 bold under");
    assert!(Style::unpack(u32::MAX).front <= 16);
}

proptest! {
    /// Read in pieces, at whatever place they are cut, it is the same text in the same styles.
    #[test]
    fn pieces_show_the_same_as_the_whole(
        bytes in proptest::collection::vec(
            prop_oneof![Just(0x1bu8), Just(b'['), Just(b']'), Just(b'm'), Just(b'3'), Just(b'1'), Just(b';'),
                        Just(b'\r'), Just(b'\n'), Just(0x07), Just(0xe2), Just(0x82), Just(0xac), any::<u8>()],
            0..60,
        ),
        cuts in proptest::collection::vec(1usize..9, 1..60),
    ) {
        let flat = |spans: Vec<Span>| -> Vec<(char, String)> {
            let chars = |span: Span| span.text.chars().map(|c| (c, span.class.clone())).collect::<Vec<_>>();
            spans.into_iter().flat_map(chars).collect()
        };
        let (whole, _) = read(&mut Style::default(), &bytes, true);
        let (mut style, mut held, mut rest, mut pieces) = (Style::default(), Vec::new(), &bytes[..], Vec::new());
        for cut in cuts.iter().cycle() {
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            held.extend_from_slice(piece);
            rest = more;
            let (spans, count) = read(&mut style, &held, rest.is_empty());
            held.drain(..count);
            pieces.extend(spans);
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(held.is_empty());
        prop_assert_eq!(flat(pieces), flat(whole));
    }
}
