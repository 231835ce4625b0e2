//! The program: parses the command line, runs what it says, and answers the exit code. All of it is in
//! [`windlass::cli`], so that tests reach it.

fn main() -> std::process::ExitCode {
    windlass::cli::main()
}
