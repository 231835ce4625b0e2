//! The machines of builders, as EC2 sees them.

use std::time::Duration;

use aws_sdk_ec2::types::{
    Filter, IamInstanceProfileSpecification, Instance, InstanceInterruptionBehavior,
    InstanceMarketOptionsRequest, InstanceStateName, InstanceType, MarketType, ResourceType,
    ShutdownBehavior, SpotInstanceType, SpotMarketOptions, TagSpecification,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;

use super::super::{Aws, operations, tags};
use super::order::Order;
use crate::cloud::{Error, hearing};
use crate::ids::{Digest, InstanceId};

/// The last lines of a machine's console that are worth reading.
const CONSOLE_LINES: usize = 60;

/// The machine of a builder.
#[derive(Debug, Clone)]
pub struct Machine {
    pub id: InstanceId,
    pub generation: u32,
    pub state: State,
    pub launched_at: Timestamp,
    pub spot: bool,
    /// Why it is as it is, where EC2 says so.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Running,
    Stopping,
    Stopped,
    /// It ends, or has ended.
    Gone,
}

impl Machine {
    fn of(instance: &Instance) -> Option<Self> {
        let state = match instance.state().and_then(|state| state.name()) {
            Some(InstanceStateName::Pending) | None => State::Pending,
            Some(InstanceStateName::Running) => State::Running,
            Some(InstanceStateName::Stopping) => State::Stopping,
            Some(InstanceStateName::Stopped) => State::Stopped,
            Some(_) => State::Gone,
        };
        let launched = instance.launch_time().map(|at| Timestamp::from_second(at.secs()));
        let reason = instance.state_reason().and_then(|reason| reason.message());
        Some(Self {
            id: instance.instance_id()?.parse().ok()?,
            generation: tags::value(instance.tags(), tags::GENERATION)?.parse().ok()?,
            state,
            launched_at: launched.and_then(Result::ok).unwrap_or_else(Timestamp::now),
            spot: instance.instance_lifecycle().is_some_and(|life| life.as_str() == "spot"),
            reason: reason.filter(|reason| !reason.is_empty()).map(str::to_owned),
        })
    }

    pub fn is_gone(&self) -> bool {
        self.state == State::Gone
    }
}

fn filter(name: impl Into<String>, value: impl Into<String>) -> Filter {
    Filter::builder().name(name).values(value).build()
}

impl Aws {
    /// The machines of all builders for an image that EC2 knows of, the newest generation last.
    pub(in crate::cloud::aws) async fn machines(&self, image: &Digest) -> Result<Vec<Machine>, Error> {
        let (mut found, mut next) = (Vec::new(), None::<String>);
        loop {
            let page = self.client.call(operations::DESCRIBE_INSTANCES, |services| {
                let request = services.ec2.describe_instances();
                let request = request.filters(filter(format!("tag:{}", tags::IMAGE), image.as_str()));
                request.set_next_token(next.clone()).send()
            });
            let page = page.await?;
            let instances = page.reservations().iter().flat_map(|reservation| reservation.instances());
            found.extend(instances.filter_map(Machine::of));
            match page.next_token() {
                Some(token) if !token.is_empty() => next = Some(token.to_owned()),
                _ => break,
            }
        }
        // One that is there before one that has ended.
        found.sort_by_key(|machine: &Machine| (machine.generation, !machine.is_gone()));
        Ok(found)
    }

    /// The machine of one of them.
    pub(in crate::cloud::aws) async fn machine(
        &self,
        image: &Digest,
        generation: u32,
    ) -> Result<Option<Machine>, Error> {
        let machines = self.machines(image).await?;
        Ok(machines.into_iter().rev().find(|machine| machine.generation == generation))
    }

    /// Asks for the machine; asked again, the answer is the same machine.
    pub(in crate::cloud::aws) async fn run_machine(&self, order: &Order) -> Result<Machine, Error> {
        let mut about = tags::of(&order.tags);
        about.push((tags::NAME.to_owned(), format!("{}-builder", order.image.name)));
        about.push((tags::IMAGE.to_owned(), order.image.key.to_string()));
        about.push((tags::GENERATION.to_owned(), order.generation.to_string()));
        let about = tags::ec2(about);
        let specified = |what: ResourceType| {
            TagSpecification::builder().resource_type(what).set_tags(Some(about.clone())).build()
        };
        let groups = Some(order.security_groups.clone()).filter(|groups| !groups.is_empty());
        let profile =
            order.profile.as_ref().map(|name| IamInstanceProfileSpecification::builder().name(name).build());
        let market = order.spot.then(|| {
            let options = SpotMarketOptions::builder()
                .spot_instance_type(SpotInstanceType::OneTime)
                .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate);
            InstanceMarketOptionsRequest::builder()
                .market_type(MarketType::Spot)
                .spot_options(options.build())
                .build()
        });
        let answer = self.client.call(operations::RUN_INSTANCES, |services| {
            let request = services.ec2.run_instances().image_id(order.ami.as_str());
            let request = request.instance_type(InstanceType::from(order.instance_type.as_str()));
            let request = request.min_count(1).max_count(1).client_token(&order.token);
            let request = request.subnet_id(&order.subnet).set_security_group_ids(groups.clone());
            let request = request.set_iam_instance_profile(profile.clone());
            let request = request.set_instance_market_options(market.clone());
            let request = request.user_data(BASE64.encode(&order.user_data));
            // The machine ends itself when nobody else does.
            let request = request.instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate);
            let request = request.tag_specifications(specified(ResourceType::Instance));
            request.tag_specifications(specified(ResourceType::Volume)).send()
        });
        let answer = answer.await?;
        let made = answer.instances().iter().find_map(|instance| {
            let id: InstanceId = instance.instance_id()?.parse().ok()?;
            let machine = Machine::of(instance);
            Some(machine.unwrap_or(Machine {
                id,
                generation: order.generation,
                state: State::Pending,
                launched_at: Timestamp::now(),
                spot: order.spot,
                reason: None,
            }))
        });
        made.ok_or_else(|| Error::Ambiguous("RunInstances answered no instance".to_owned()))
    }

    pub(in crate::cloud::aws) async fn stop_machine(&self, machine: &Machine) -> Result<(), Error> {
        let stopped = self.client.call(operations::STOP_INSTANCES, |services| {
            services.ec2.stop_instances().instance_ids(machine.id.as_str()).send()
        });
        match stopped.await {
            // It is on its way there, or gone: the next look says so.
            Ok(_) | Err(Error::Conflict(_) | Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends machines. Those that are gone are fine.
    pub(in crate::cloud::aws) async fn end_machines(&self, machines: &[Machine]) -> Result<(), Error> {
        let there: Vec<&Machine> = machines.iter().filter(|machine| !machine.is_gone()).collect();
        for machine in &there {
            hearing::say(&format!("ends the builder {}", machine.id));
            let ended = self.client.call(operations::TERMINATE_INSTANCES, |services| {
                services.ec2.terminate_instances().instance_ids(machine.id.as_str()).send()
            });
            match ended.await {
                Ok(_) | Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says the end of what the machine wrote to its console, as far as EC2 has it.
    pub(in crate::cloud::aws) async fn say_console(&self, machine: &Machine) {
        let text = match self.console(machine, true).await {
            // Only Nitro has the latest.
            Err(_) => self.console(machine, false).await,
            latest => latest,
        };
        let text = match text {
            Ok(text) => text,
            Err(error) => return hearing::say(&format!("its console output cannot be had: {error}")),
        };
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(CONSOLE_LINES)..).unwrap_or_default();
        if last.is_empty() {
            return hearing::say(&format!("the console of {} has nothing yet", machine.id));
        }
        hearing::say(&format!("the end of the console of {}:", machine.id));
        for line in last {
            hearing::say(&format!("console: {line}"));
        }
    }

    async fn console(&self, machine: &Machine, latest: bool) -> Result<String, Error> {
        let answer = self.client.call(operations::GET_CONSOLE_OUTPUT, |services| {
            let request = services.ec2.get_console_output().instance_id(machine.id.as_str());
            request.set_latest(latest.then_some(true)).send()
        });
        let answer = answer.await?;
        let bytes = BASE64.decode(answer.output().unwrap_or_default().trim()).unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Looks that come quickly at first, and then as often as the settings say.
pub struct Looks {
    next: Duration,
    most: Duration,
}

/// The pause after the first look.
const FIRST: Duration = Duration::from_millis(500);
/// While there is news, the next look is not put off longer.
const NEWS: Duration = Duration::from_secs(2);

impl Looks {
    pub fn new(most: Duration) -> Self {
        Self { next: FIRST.min(most), most }
    }

    /// Waits until the next look.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 3 / 2).min(self.most);
    }

    /// Something happened: more may.
    pub fn news(&mut self) {
        self.next = self.next.min(NEWS).min(self.most);
    }
}
