//! PURE. User data of a fleet's instance: its environment, and its service started with it.
//!
//! The image has the service; what differs from fleet to fleet comes with the launch. The variables go
//! to `/etc/windlass/SERVICE.env`, which only root reads, in the syntax of systemd's `EnvironmentFile=`
//! that a shell's `.` reads as well. `WINDLASS_ROOT` is a prefix of that path, for trying it out.

use std::fmt::Write as _;

use base64::Engine as _;

use crate::cloud::{Error, Launch};
use crate::ids::Digest;

/// "User data is limited to 16 KB, in raw form, before it is base64-encoded" (EC2 User Guide).
const LIMIT: usize = 16 * 1024;

/// Who starts with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// This one instance: it is told its name.
    One,
    /// Any that a group launches.
    Any,
}

/// The user data, as a request carries it: in base64.
///
/// # Errors
/// A name that is none of a variable, a value with NUL, or more than AWS takes.
pub fn user_data(launch: &Launch, port: u16, who: For) -> Result<String, Error> {
    let script = script(launch, port, who)?;
    if script.len() > LIMIT {
        return Err(Error::Denied(format!(
            "the environment of {} is too long: AWS takes {LIMIT} bytes with a launch, and it is {}; put \
             large values where the service fetches them",
            launch.fleet,
            script.len()
        )));
    }
    Ok(base64::engine::general_purpose::STANDARD.encode(script))
}

fn script(launch: &Launch, port: u16, who: For) -> Result<String, Error> {
    let service = &launch.fleet.service;
    let text = environment_file(launch, port, who)?;
    // No line of the text is this, whatever is in it.
    let end = format!("END-{}", Digest::of(text.as_bytes()).short());
    Ok(format!(
        "#!/bin/sh\n\
         set -eu\n\
         umask 077\n\
         directory=\"${{WINDLASS_ROOT:-}}/etc/windlass\"\n\
         mkdir -p \"$directory\"\n\
         cat > \"$directory/.{service}.env\" <<'{end}'\n\
         {text}\
         {end}\n\
         chmod 600 \"$directory/.{service}.env\"\n\
         mv -f \"$directory/.{service}.env\" \"$directory/{service}.env\"\n\
         # It may have started before it had these. Nobody waits here: this runs while the machine boots.\n\
         if command -v systemctl > /dev/null 2>&1; then\n\
         \x20 systemctl restart {service} --no-block\n\
         fi\n"
    ))
}

/// The fleet's variables, and over them what only the instance knows: as in the local cloud.
fn environment_file(launch: &Launch, port: u16, who: For) -> Result<String, Error> {
    let mut all = launch.env.clone();
    let mut own = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
    own("PORT", port.to_string());
    own("WINDLASS_SERVICE", launch.fleet.service.to_string());
    own("WINDLASS_ENVIRONMENT", launch.fleet.environment.to_string());
    if let Some(version) = version(launch) {
        own("WINDLASS_VERSION", version.to_owned());
    }
    if who == For::One {
        own("WINDLASS_INSTANCE", launch.name.clone());
    }
    let mut text = String::new();
    for (name, value) in &all {
        let legal =
            |(at, b): (usize, u8)| b == b'_' || b.is_ascii_alphabetic() || at > 0 && b.is_ascii_digit();
        if name.is_empty() || !name.bytes().enumerate().all(legal) || value.contains('\0') {
            let fleet = &launch.fleet;
            return Err(Error::Denied(format!(
                "{name:?} in the env of {fleet} is no variable that systemd takes"
            )));
        }
        let _ = writeln!(text, "{name}={}", quoted(value));
    }
    Ok(text)
}

/// In double quotes, inside of which only these four characters mean something to systemd
/// (systemd.exec(5), `EnvironmentFile=`) and to a shell.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

/// `42-9f3c2a1b` of the instance `storefront-production-42-9f3c2a1b-1`.
fn version(launch: &Launch) -> Option<&str> {
    let rest = launch.name.strip_prefix(&format!("{}-", launch.fleet))?;
    rest.rsplit_once('-').map(|(version, _)| version)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::cloud::Tags;
    use crate::ids::{FleetId, RunId};

    fn launch(env: &[(&str, &str)]) -> Launch {
        let service: crate::ids::PipelineName = "shop".parse().unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Launch {
            key: "k".parse().unwrap(),
            name: "shop-production-42-9f3c2a1b-3".to_owned(),
            fleet: FleetId::new(service.clone(), "production".parse().unwrap()),
            image: "ami-1".parse().unwrap(),
            env: env.collect::<BTreeMap<_, _>>(),
            release: Digest::of(b"release"),
            tags: Tags {
                service: service.clone(),
                run: RunId::new(service, 42),
                stage: "production".to_owned(),
                key: "k".parse().unwrap(),
            },
        }
    }

    /// Runs the user data, and what a shell then reads of `name`.
    fn run(root: &Path, data: &str, name: &str) -> String {
        let script = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        let boot = root.join("boot");
        std::fs::write(&boot, script).unwrap();
        // No systemctl is there, as in an image without systemd.
        let bin = root.join("bin");
        if !bin.exists() {
            std::fs::create_dir(&bin).unwrap();
            for tool in ["cat", "mkdir", "chmod", "mv"] {
                let real = ["/bin", "/usr/bin"].map(|directory| Path::new(directory).join(tool));
                std::os::unix::fs::symlink(real.iter().find(|path| path.exists()).unwrap(), bin.join(tool))
                    .unwrap();
            }
        }
        let done = Command::new("/bin/sh").arg(&boot).env("WINDLASS_ROOT", root).env("PATH", &bin).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{done:?}");
        let read = format!(". {}/etc/windlass/shop.env; printf %s \"${name}\"", root.display());
        String::from_utf8(Command::new("/bin/sh").args(["-c", &read]).output().unwrap().stdout).unwrap()
    }

    #[test]
    fn what_a_service_is_given_is_what_it_gets_whatever_is_in_it() {
        let room = tempfile::tempdir().unwrap();
        let hard = "it's \"$HOME\" `date` \\ back\\\nEND-x\n  and # more = ü ";
        let data = user_data(&launch(&[("HARD", hard), ("PORT", "1")]), 8080, For::One).unwrap();
        assert_eq!(run(room.path(), &data, "HARD"), hard);
        assert_eq!(run(room.path(), &data, "PORT"), "8080");
        assert_eq!(run(room.path(), &data, "WINDLASS_VERSION"), "42-9f3c2a1b");
        assert_eq!(run(room.path(), &data, "WINDLASS_INSTANCE"), "shop-production-42-9f3c2a1b-3");
        let file = std::fs::metadata(room.path().join("etc/windlass/shop.env")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn its_service_is_started_anew_where_there_is_a_systemctl() {
        let room = tempfile::tempdir().unwrap();
        let data = user_data(&launch(&[]), 8080, For::Any).unwrap();
        run(room.path(), &data, "PORT");
        let systemctl = room.path().join("bin/systemctl");
        let stub = "#!/bin/sh\ncat $WINDLASS_ROOT/etc/windlass/shop.env > $WINDLASS_ROOT/started\n\
                    echo \"$@\" >> $WINDLASS_ROOT/started\n";
        std::fs::write(&systemctl, stub).unwrap();
        std::fs::set_permissions(&systemctl, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(run(room.path(), &data, "WINDLASS_INSTANCE"), "", "of a group's nobody is told its name");
        let started = std::fs::read_to_string(room.path().join("started")).unwrap();
        assert!(started.contains("PORT=\"8080\"\n"), "{started}");
        assert!(started.ends_with("restart shop --no-block\n"), "{started}");
    }

    #[test]
    fn what_cannot_be_given_is_refused() {
        for env in [("1ST", "x"), ("", "x"), ("A-B", "x"), ("A", "\0"), ("A\nB", "x")] {
            let refused = user_data(&launch(&[env]), 80, For::One);
            assert!(matches!(refused, Err(Error::Denied(_))), "{env:?}: {refused:?}");
        }
        let long = "x".repeat(LIMIT);
        let refused = user_data(&launch(&[("A", &long)]), 80, For::One);
        assert!(matches!(&refused, Err(Error::Denied(why)) if why.contains("16384")), "{refused:?}");
    }
}
