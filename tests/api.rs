//! The API against its own description: schemathesis reads that and asks all it can think of.

#[allow(dead_code, reason = "each of the programs that share it uses what it needs")]
#[path = "tools/mod.rs"]
mod tools;

use std::process::Command;

use self::tools::{Server, tool};

/// What has to hold of every answer.
const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// For how long it asks, in seconds.
const BUDGET: &str = "50";

/// Asks for a run that there is as often as for any other.
const CONFIG: &str = "[parameters]\npipeline = [\"hello\", \"nothing\"]\nnumber = [1, 2]\n";

const HELLO: &str = "name: hello\nstages: { say: { steps: [{ name: Say, run: echo hello }] } }\n";

#[test]
fn schemathesis_finds_no_server_error() {
    let schemathesis = tool("schemathesis");
    let mut server = Server::start("{}\n", &[("WINDLASS_LOG", "warn")]);
    // Its database of examples and what else it keeps goes here, and away with the server.
    let directory = server.directory.path().to_owned();
    std::fs::write(directory.join("hello.yaml"), HELLO).unwrap();
    server.windlass(&["run", "hello.yaml"]);

    std::fs::write(directory.join("schemathesis.toml"), CONFIG).unwrap();
    let asked = Command::new(schemathesis)
        .current_dir(&directory)
        .args(["run", &format!("http://{}/api/v1/openapi.json", server.address)])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--mode", "all"])
        .args(["--seed", "42", "--max-time", BUDGET, "--request-timeout", "15"])
        .args(["--no-color", "--warnings", "off"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout);
    assert!(asked.status.success(), "{said}\n{}", String::from_utf8_lossy(&asked.stderr));
    assert!(said.contains("Test cases:") && !said.contains(" 0 generated"), "it asked nothing:\n{said}");
    server.is_alive();
}
