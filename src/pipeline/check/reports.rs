//! `reports`: that they name something.

use super::super::spec::Kind;
use super::Check;

impl Check<'_> {
    pub(super) fn reports(&mut self) {
        for stage in &self.spec.stages {
            let Some(Kind::Script { reports: Some(reports), .. }) = &stage.kind else { continue };
            if reports.junit.is_none() && reports.coverage.is_none() {
                self.error(reports.at.clone(), "\"reports\" names no reports")
                    .help("it has the keys junit and coverage");
            }
            let coverage = reports.coverage.as_ref();
            let lists = [
                reports.junit.as_ref(),
                coverage.and_then(|coverage| coverage.lcov.as_ref()),
                coverage.and_then(|coverage| coverage.cobertura.as_ref()),
            ];
            for list in lists.into_iter().flatten() {
                self.patterns(list);
            }
        }
    }
}
