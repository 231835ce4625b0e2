//! Following a builder that provisions itself: its log, its verdict, and what becomes of its machine.

use jiff::Timestamp;

use super::super::{Aws, images};
use super::machine::{Looks, Machine, State};
use super::order::{self, Follower, LOG, Order, VERDICT, Verdict, place};
use super::{followed, over, ssm};
use crate::cloud::{BuildRequest, Error, ImageRequest, hearing};

/// The machine is looked at with every so many looks at what it says.
const MACHINE_EVERY: u32 = 3;

/// Follows the builder to its verdict.
pub async fn provisioned(aws: &Aws, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
    if images::made(aws, &image.key).await?.is_some() {
        return Ok(());
    }
    let order = followed(aws, request, image).await?;
    let here = |name: &str| place(&image.key, order.generation, name);
    let mut log = Log::open(aws, here(LOG), here(&order::follower(&request.key))).await?;
    let mut ssm = ssm::Delivery::default();
    let mut looks = Looks::new(aws.setup.account.poll);
    let mut machine: Option<Machine> = None;
    for look in 0u32.. {
        // Before the log: what is in that by then is all of it.
        let verdict: Option<Verdict> = aws.paper(&here(VERDICT)).await?;
        if log.read(aws, verdict.is_some()).await? {
            looks.news();
        }
        if let Some(verdict) = verdict {
            return judge(&verdict, request, &log.last);
        }
        if look % MACHINE_EVERY == 0 {
            machine = aws.machine(&image.key, order.generation).await?.or(machine);
        }
        if let Some(machine) = machine.as_ref().filter(|machine| has_ended(machine)) {
            let verdict: Option<Verdict> = aws.paper(&here(VERDICT)).await?;
            log.read(aws, true).await?;
            if let Some(verdict) = verdict {
                return judge(&verdict, request, &log.last);
            }
            aws.say_console(machine).await;
            let reason = machine.reason.as_deref().unwrap_or("EC2 does not say why");
            return Err(Error::Failed(format!(
                "the builder {} ended before it was done: {reason}",
                machine.id
            )));
        }
        let began = machine.as_ref().map_or(order.at, |machine| machine.launched_at);
        if began + order.timeout < Timestamp::now() {
            log.read(aws, true).await?;
            return Err(too_late(aws, &order, machine.as_ref()).await?);
        }
        if let (Some(command), Some(machine)) = (&order.command, &machine) {
            if let Err(error) = ssm.go_on(aws, &order, machine, command).await {
                // What the builder itself said before it failed says more.
                let verdict: Option<Verdict> = aws.paper(&here(VERDICT)).await?;
                log.read(aws, true).await?;
                return Err(verdict.and_then(|said| judge(&said, request, &log.last).err()).unwrap_or(error));
            }
        }
        looks.pause().await;
    }
    Err(Error::Ambiguous("nobody looked any more".to_owned()))
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
    async fn open(aws: &Aws, place: String, kept: String) -> Result<Self, Error> {
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
