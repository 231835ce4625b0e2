//! HAProxy, as its manual has it for HTTP on one machine, with what `windlass balancer` does too: health
//! checks, connections that are kept on both sides, the target with the fewest open requests, for whom it
//! is forwarded. Threads as it chooses them by itself; no log of requests, as ours has none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bench::wait_for;
use crate::target::free_address;

/// Killed when it is dropped.
pub struct HaProxy {
    child: Child,
    pub address: SocketAddr,
    admin: PathBuf,
}

impl HaProxy {
    pub fn start(program: &Path, directory: &Path, targets: &[SocketAddr], interval: Duration) -> Self {
        let (address, admin) = (free_address(), directory.join("haproxy.sock"));
        let mut text = format!(
            "global\n  maxconn 8192\n  stats socket {} mode 600 level admin\n\
             defaults\n  mode http\n  option forwardfor\n  option redispatch\n  http-reuse always\n  \
             timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             frontend public\n  bind {address}\n  default_backend fleet\n\
             backend fleet\n  balance leastconn\n  option httpchk GET /healthz\n  \
             default-server check inter {} rise 2 fall 2\n",
            admin.display(),
            interval.as_millis(),
        );
        for (number, target) in targets.iter().enumerate() {
            text.push_str(&format!("  server {} {target}\n", name(number)));
        }
        let file = directory.join("haproxy.cfg");
        std::fs::write(&file, text).expect("its configuration");
        let child = Command::new(program).arg("-db").arg("-f").arg(&file).stderr(Stdio::null()).spawn();
        let haproxy = Self { child: child.expect("HAProxy starts"), address, admin };
        let all_up = || {
            let up = haproxy.ask("show stat").lines().filter(|line| line.contains(",UP,")).count();
            // The servers and the backend itself.
            (up == targets.len() + 1 && TcpStream::connect(address).is_ok()).then_some(())
        };
        wait_for("HAProxy", Duration::from_secs(10), all_up);
        haproxy
    }

    /// Sends a target no more requests, waits until it has none, and takes it back.
    pub fn swap(&self, number: usize) {
        let server = format!("fleet/{}", name(number));
        self.ask(&format!("set server {server} state drain"));
        let line = format!("fleet,{},", name(number));
        // The fifth field of a line of `show stat` is how many sessions are open.
        let open = || {
            let stat = self.ask("show stat");
            let line = stat.lines().find(|found| found.starts_with(&line))?;
            (line.split(',').nth(4) == Some("0")).then_some(())
        };
        wait_for("the end of its requests", Duration::from_secs(10), open);
        self.ask(&format!("set server {server} state ready"));
    }

    fn ask(&self, what: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut admin) = UnixStream::connect(&self.admin) {
            let _ = writeln!(admin, "{what}").and_then(|()| admin.read_to_string(&mut answer));
        }
        answer
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name(number: usize) -> String {
    format!("target{number}")
}
