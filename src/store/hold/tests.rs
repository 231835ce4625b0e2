use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use super::*;

const DIRECTORY: &str = "WINDLASS_TEST_HELD_DIRECTORY";

/// What [`other_process`] runs: this binary, this test.
#[test]
#[ignore = "runs as the second process of the tests beside it"]
fn second_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let _hold = Hold::take(Path::new(&directory), "windlass run").unwrap();
    println!("\nheld");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// A process that holds the directory until it is killed or its standard input ends.
fn other_process(directory: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["store::hold::tests::second_process", "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let held = said.by_ref().lines().any(|line| line.unwrap() == "held");
    assert!(held, "the second process ended without holding");
    child.stdout = Some(said.into_inner());
    child
}

#[test]
fn a_directory_is_made_for_this_user_and_held_by_one() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("a/b");
    assert_eq!(Hold::holder(&directory).unwrap(), None);
    assert!(!directory.exists(), "asking creates nothing");

    let hold = Hold::take(&directory, "windlass demo").unwrap();
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let holder = Hold::holder(&directory).unwrap().unwrap();
    assert_eq!((holder.pid, holder.what.as_str()), (std::process::id(), "windlass demo"));
    assert!(matches!(Hold::take(&directory, "windlass run"), Err(HoldError::Held { .. })));

    drop(hold);
    assert_eq!(Hold::holder(&directory).unwrap(), None);
    Hold::take(&directory, "windlass run").unwrap();
}

#[test]
fn the_second_process_is_told_who_holds_and_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let mut child = other_process(root.path());
    let holder = Hold::holder(root.path()).unwrap().unwrap();
    assert_eq!(holder.pid, child.id());

    let error = Hold::take(root.path(), "windlass serve").unwrap_err().to_string();
    let since = holder.since.to_zoned(TimeZone::system()).strftime("%H:%M").to_string();
    assert_eq!(
        error,
        format!(
            "{} is held by process {} (windlass run, since {since}); use --data for another directory, \
             or ask that process: windlass status",
            root.path().display(),
            child.id()
        )
    );
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(Hold::holder(root.path()).unwrap(), None);
}

#[test]
fn a_killed_holder_holds_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut child = other_process(root.path());
    child.kill().unwrap();
    child.wait().unwrap();
    // The file still names it.
    assert!(!std::fs::read(root.path().join(FILE)).unwrap().is_empty());
    assert_eq!(Hold::holder(root.path()).unwrap(), None);
    let _hold = Hold::take(root.path(), "windlass resume").unwrap();
    assert_eq!(Hold::holder(root.path()).unwrap().unwrap().pid, std::process::id());
}

#[test]
fn child_processes_do_not_inherit_the_hold() {
    let root = tempfile::tempdir().unwrap();
    let hold = Hold::take(root.path(), "windlass run").unwrap();
    // Ends when its standard input does.
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    drop(hold);
    Hold::take(root.path(), "windlass resume").unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn looking_does_not_get_in_the_way_of_taking() {
    let root = tempfile::tempdir().unwrap();
    drop(Hold::take(root.path(), "windlass run").unwrap());
    let looking = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while looking.load(std::sync::atomic::Ordering::Relaxed) {
                if let Some(holder) = Hold::holder(root.path()).unwrap() {
                    assert_eq!(holder.what, "windlass run");
                }
            }
        });
        let taken = (0..300).all(|_| Hold::take(root.path(), "windlass run").is_ok());
        looking.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(taken);
    });
}

#[test]
fn of_many_who_take_at_once_one_holds() {
    let root = tempfile::tempdir().unwrap();
    let start = std::sync::Barrier::new(8);
    let takes: Vec<_> = std::thread::scope(|scope| {
        let take = || {
            start.wait();
            Hold::take(root.path(), "windlass run")
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(takes.iter().filter(|take| take.is_ok()).count(), 1);
    assert!(takes.iter().flat_map(|take| take.as_ref().err()).all(|e| matches!(e, HoldError::Held { .. })));
}

#[test]
fn a_pid_alone_is_no_process() {
    let root = tempfile::tempdir().unwrap();
    let mut child = other_process(root.path());
    let ended = Hold::holder(root.path()).unwrap().unwrap();
    assert!(ended.lives());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!ended.lives(), "it was killed");
    // Process 1 lives, and started long before: two that start at once may share a clock tick.
    let reused = Holder { pid: 1, ..ended };
    assert!(started(reused.pid).is_none_or(|tick| Some(tick) != reused.started), "it is another process");
    assert!(!reused.lives(), "its pid went to another process");
}
