//! Lines on a terminal that are drawn again and again.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Target;

/// At most so many drawings a second.
const RATE: u8 = 20;

pub struct Live {
    screen: MultiProgress,
    lines: Vec<ProgressBar>,
    colours: bool,
}

impl Live {
    pub fn new(target: Target) -> Self {
        let (target, choice) = match target {
            Target::Stdout => {
                (ProgressDrawTarget::stdout_with_hz(RATE), anstream::AutoStream::choice(&std::io::stdout()))
            }
            Target::Stderr => {
                (ProgressDrawTarget::stderr_with_hz(RATE), anstream::AutoStream::choice(&std::io::stderr()))
            }
        };
        let colours = choice != anstream::ColorChoice::Never;
        Self { screen: MultiProgress::with_draw_target(target), lines: Vec::new(), colours }
    }

    /// Puts these lines in place of those before; what is too wide is cut.
    pub fn draw(&mut self, lines: &[String]) {
        while self.lines.len() > lines.len() {
            if let Some(surplus) = self.lines.pop() {
                self.screen.remove(&surplus);
            }
        }
        while self.lines.len() < lines.len() {
            let style = ProgressStyle::with_template("{wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let line = ProgressBar::new_spinner().with_style(style);
            self.lines.push(self.screen.add(line));
        }
        for (line, text) in self.lines.iter().zip(lines) {
            line.set_message(self.paint(text));
        }
    }

    /// Says something above the lines; it stays.
    pub fn say(&self, line: &str) {
        // A terminal that went away is noticed by the signal it sends.
        let _ = self.screen.println(self.paint(line));
    }

    pub fn clear(self) {
        for line in &self.lines {
            line.finish_and_clear();
        }
        let _ = self.screen.clear();
    }

    fn paint(&self, line: &str) -> String {
        match self.colours {
            true => line.to_owned(),
            false => anstream::adapter::strip_str(line).to_string(),
        }
    }
}
