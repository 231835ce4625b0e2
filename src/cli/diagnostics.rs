//! What the program says of itself on the standard error, for people or for programs.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One JSON object a line
    Json,
    /// For people
    Text,
}

/// Starts the log. `level` is what is shown unless `WINDLASS_LOG` says otherwise.
pub fn start(form: Form, level: &str) {
    // Where no credentials are found, whoever asked for them says so.
    let filter = EnvFilter::try_from_env("WINDLASS_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},aws_config=off")));
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    let _ = match form {
        Form::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init(),
        // Fields stand beside the message, so that programs find them under their names.
        Form::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
    };
}
