//! Following a builder that provisions itself: its log, its verdict, and what becomes of its machine.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::{Aws, images};
use super::machine::{Looks, Machine, State};
use super::order::{self, Follower, LOG, Order, SENT, VERDICT, Verdict, place};
use super::{followed, over, ssm};
use crate::clock::Ages;
use crate::cloud::{BuildRequest, Error, ImageRequest, hearing};

/// The machine is looked at with every so many looks at what it says.
const MACHINE_EVERY: u32 = 3;

/// So long after its timeout a builder that cannot be looked at is followed in vain.
const UNSEEN: Duration = Duration::from_secs(5 * 60);

/// Follows the builder to its verdict.
pub async fn provisioned(aws: &Aws, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
    if images::made(aws, &image.key).await?.is_some() {
        return Ok(());
    }
    let order = followed(aws, request, image).await?;
    let log = Log::open(aws, &order, request).await?;
    let (ssm, ages) = (ssm::Delivery::default(), Ages::default());
    let mut follow = Follow { aws, request, order, log, machine: None, ages, ssm, looks: 0 };
    let mut looks = Looks::new(aws.setup.account.poll);
    let began = Instant::now();
    loop {
        match follow.look().await {
            Ok(Look::Done(done)) => return done,
            Ok(Look::News) => looks.news(),
            Ok(Look::Nothing) => {}
            // The builder goes on whether it can be looked at or not.
            Err(error @ (Error::Ambiguous(_) | Error::Throttled { .. })) => {
                if began.elapsed() > follow.order.timeout + UNSEEN {
                    return Err(error);
                }
                hearing::say(&format!("looks again: {error}"));
            }
            Err(error) => return Err(error),
        }
        looks.pause().await;
    }
}

enum Look {
    Done(Result<(), Error>),
    News,
    Nothing,
}

/// A builder that is followed.
struct Follow<'a> {
    aws: &'a Aws,
    request: &'a BuildRequest,
    order: Order,
    log: Log,
    machine: Option<Machine>,
    /// Since the machine was launched, or, where none is seen, since it was ordered.
    ages: Ages<Option<String>>,
    ssm: ssm::Delivery,
    looks: u32,
}

impl Follow<'_> {
    async fn look(&mut self) -> Result<Look, Error> {
        let (aws, key, generation) = (self.aws, self.order.image.key.clone(), self.order.generation);
        // Before the log: what is in that by then is all of it.
        let papers = aws.papers(&key).await?;
        if papers.has(generation, VERDICT) {
            return self.judged().await;
        }
        let news = papers.has(generation, LOG) && self.log.read(aws, false).await?;
        if self.looks.is_multiple_of(MACHINE_EVERY) {
            self.machine = aws.machine(&key, generation).await?.or(self.machine.take());
        }
        self.looks += 1;
        let machine = self.machine.clone();
        if let Some(machine) = machine.as_ref().filter(|machine| has_ended(machine)) {
            if aws.papers(&key).await?.has(generation, VERDICT) {
                return self.judged().await;
            }
            self.log.read(aws, true).await?;
            aws.say_console(machine).await;
            let reason = machine.reason.as_deref().unwrap_or("EC2 does not say why");
            let ended = format!("the builder {} ended before it was done: {reason}", machine.id);
            return Ok(Look::Done(Err(Error::Failed(ended))));
        }
        let began = machine.as_ref().map_or(self.order.at, |machine| machine.launched_at);
        let name = machine.as_ref().map(|machine| machine.id.to_string());
        if self.ages.of(name, began, Timestamp::now()) > self.order.timeout {
            self.log.read(aws, true).await?;
            return Ok(Look::Done(Err(too_late(aws, &self.order, machine.as_ref()).await?)));
        }
        if let Some(machine) = &machine
            && let Err(error) = self.ssm.go_on(aws, &self.order, machine, papers.has(generation, SENT)).await
        {
            // What the builder itself said before it failed says more.
            return match aws.papers(&key).await?.has(generation, VERDICT) {
                true => self.judged().await,
                false => Err(error),
            };
        }
        Ok(if news { Look::News } else { Look::Nothing })
    }

    /// What the verdict, which is there, means.
    async fn judged(&mut self) -> Result<Look, Error> {
        let Order { generation, image, .. } = &self.order;
        let verdict: Option<Verdict> = self.aws.paper(&place(&image.key, *generation, VERDICT)).await?;
        self.log.read(self.aws, true).await?;
        Ok(match verdict {
            Some(verdict) => Look::Done(judge(&verdict, self.request, &self.log.last)),
            None => Look::Nothing,
        })
    }
}

fn has_ended(machine: &Machine) -> bool {
    matches!(machine.state, State::Gone | State::Stopping | State::Stopped)
}

/// Ends a builder that took too long.
async fn too_late(aws: &Aws, order: &Order, machine: Option<&Machine>) -> Result<Error, Error> {
    let allowed = order.timeout.as_secs();
    let Some(machine) = machine else {
        return Ok(Error::TooLate(format!("nothing was seen of the builder within {allowed} s")));
    };
    aws.say_console(machine).await;
    over(aws, order, "it was not done in time").await?;
    aws.end_machines(std::slice::from_ref(machine)).await?;
    Ok(Error::TooLate(format!(
        "the builder {} was not done within {allowed} s and was ended: its log and console are above; if it \
         needs longer, raise clouds.aws.builder.timeout",
        machine.id
    )))
}

fn judge(verdict: &Verdict, request: &BuildRequest, last: &str) -> Result<(), Error> {
    if verdict.is_good() {
        return Ok(());
    }
    let exit_code = verdict.exit_code;
    let said = if last.is_empty() { String::new() } else { format!(": {last}") };
    let code = exit_code.map_or("an unknown exit code".to_owned(), |code| format!("exit code {code}"));
    if verdict.phase.as_deref() == Some("provision") {
        let command = verdict.command.and_then(|number| request.provision.get(number.checked_sub(1)?));
        let name = command.map_or("a command", |command| command.name.as_str());
        return Err(Error::Provision { message: format!("“{name}” ended with {code}{said}"), exit_code });
    }
    let phase = match verdict.phase.as_deref() {
        Some("contents") => "fetch and unpack what goes into the image",
        Some("unit") => "write the service's unit",
        _ => "do what it was told",
    };
    Err(Error::Failed(format!("the builder could not {phase} ({code}){said}")))
}

/// The log of a builder, as far as it was said.
struct Log {
    place: String,
    /// Where it is kept how much was said, for whoever goes on after us.
    kept: String,
    said: u64,
    /// The last line that says something.
    last: String,
}

/// Longest line that a message ends with, in characters.
const LAST_WORDS: usize = 200;

impl Log {
    async fn open(aws: &Aws, order: &Order, request: &BuildRequest) -> Result<Self, Error> {
        let here = |name: &str| place(&order.image.key, order.generation, name);
        let (place, kept) = (here(LOG), here(&order::follower(&request.key)));
        let follower: Option<Follower> = aws.paper(&kept).await?;
        Ok(Self { place, kept, said: follower.unwrap_or_default().said, last: String::new() })
    }

    /// Says the lines that are new, also one that has no end yet where it gets none. Whether there
    /// were any.
    async fn read(&mut self, aws: &Aws, whole: bool) -> Result<bool, Error> {
        let Some(new) = aws.read_from(&self.place, self.said).await? else { return Ok(false) };
        let end = match whole {
            true => new.len(),
            false => new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        };
        let Some(new) = new.get(..end).filter(|new| !new.is_empty()) else { return Ok(false) };
        let text = String::from_utf8_lossy(new);
        for line in text.lines() {
            hearing::say(line);
            let told = line.trim();
            if !told.is_empty() && !told.starts_with("windlass: ") {
                self.last = told.chars().filter(|c| !c.is_control()).take(LAST_WORDS).collect();
            }
        }
        self.said += new.len() as u64;
        aws.write_paper(&self.kept, &Follower { said: self.said }).await?;
        Ok(true)
    }
}
