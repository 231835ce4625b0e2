use super::*;

#[test]
fn a_program_may_have_any_name() {
    let rest = "S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 17 \
                0 0 0 0 0 0 1 1 1 1 1 1 1 768";
    let stat = Stat::parse(&format!("42 (a) (b) S 7) {rest}")).unwrap();
    assert_eq!(
        stat,
        Stat { pid: 42, state: 'S', parent: 1, group: 77, flags: 4194560, start: 123456, exit: 768 }
    );
    assert_eq!(told(stat.exit), "it ended with exit code 3");
    assert_eq!(told(9), "it was killed by signal 9");
    assert_eq!(Stat::parse("42 (half"), None);
}

#[test]
fn half_a_registration_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = registration(directory.path());
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let whole = format!("{}\n{stat}", boot().unwrap());
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(Identity::read(&path), None, "{length}");
    }
    fs::write(&path, &whole).unwrap();
    let identity = Identity::read(&path).unwrap();
    assert_eq!(identity.life(directory.path()), Life::Running);
    let later = Identity { start: identity.start + 1, ..identity.clone() };
    assert_eq!(later.life(directory.path()), Life::Over { how: None });
    let other_boot = Identity { boot: "another".to_owned(), ..identity };
    assert_eq!(other_boot.life(directory.path()), Life::Over { how: None });
}

/// Processes as an instance has them: the first one in a group of its own, started with this home.
fn started(home: &Path, script: &str) -> (std::process::Child, Belongings) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env("HOME", home).process_group(0).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The script says when it is ready.
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = child.id().cast_signed();
    let first = Identity { boot: boot().unwrap(), pid, start: Stat::of(pid).unwrap().start };
    (child, Belongings { first: Some(first), home: home.to_owned() })
}

#[test]
fn everything_ends_also_what_left_the_group_or_ignores_sigterm() {
    for (script, grace) in [
        ("sleep 3600 & sleep 3600 & echo ready; wait", GRACE),
        ("setsid sleep 3600 & echo ready; exec sleep 3600", GRACE),
        ("trap '' TERM; sleep 3600 & echo ready; wait", Duration::from_millis(50)),
    ] {
        let home = tempfile::tempdir().unwrap();
        let (mut child, belongings) = started(home.path(), script);
        assert!(belongings.find().len() > 1 || script.contains("setsid"), "{script}");
        end(&belongings, grace).unwrap();
        assert_eq!(belongings.find(), [], "{script}");
        child.wait().unwrap();
    }
}

#[test]
fn what_is_left_of_a_group_ends_though_its_first_process_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let (mut child, belongings) = started(home.path(), "sleep 3600 >/dev/null & echo ready");
    child.wait().unwrap();
    assert_eq!(belongings.find().len(), 1);
    end(&belongings, GRACE).unwrap();
    assert_eq!(belongings.find(), []);
}

#[test]
fn a_later_process_with_the_number_is_not_touched() {
    let home = tempfile::tempdir().unwrap();
    let (mut child, belongings) = started(home.path(), "echo ready; exec sleep 3600");
    let first = belongings.first.clone().unwrap();
    let earlier = Identity { start: first.start - 1, ..first };
    let other = Belongings { first: Some(earlier), home: "/another/home".into() };
    end(&other, GRACE).unwrap();
    assert!(child.try_wait().unwrap().is_none());
    end(&belongings, GRACE).unwrap();
    child.wait().unwrap();
}
