//! SSM Run Command, for builders whose profile allows it: the same script, told to fetch it by another way.
//! A command that is sent twice does nothing the second time: the script sees to that.

use std::collections::HashMap;

use aws_sdk_ssm::types::{CommandInvocationStatus, InstanceInformationStringFilter, PingStatus};

use super::super::{Aws, operations};
use super::machine::Machine;
use super::order::{Order, SENT, Sent, place};
use crate::cloud::{Error, hearing};

/// AWS's own document for shell commands.
const DOCUMENT: &str = "AWS-RunShellScript";

/// How far the delivery of a builder's command is.
#[derive(Default)]
pub struct Delivery {
    sent: Option<String>,
    waiting: bool,
}

impl Delivery {
    /// Sends the command once the machine takes some.
    ///
    /// # Errors
    /// [`Error::Failed`] when SSM says that it came to nothing.
    pub async fn go_on(
        &mut self,
        aws: &Aws,
        order: &Order,
        machine: &Machine,
        command: &str,
    ) -> Result<(), Error> {
        let kept = place(&order.image.key, order.generation, SENT);
        if self.sent.is_none() {
            self.sent = aws.paper::<Sent>(&kept).await?.map(|sent| sent.command);
        }
        if let Some(sent) = &self.sent {
            return outcome(aws, sent, machine).await;
        }
        if !is_managed(aws, machine).await? {
            if !self.waiting {
                hearing::say(&format!("waits until SSM reaches {}", machine.id));
                self.waiting = true;
            }
            return Ok(());
        }
        let parameters = HashMap::from([
            ("commands".to_owned(), command.lines().map(str::to_owned).collect()),
            ("executionTimeout".to_owned(), vec![order.timeout.as_secs().max(1).to_string()]),
        ]);
        let answer = aws.client.call(operations::SEND_COMMAND, |services| {
            let request = services.ssm.send_command().document_name(DOCUMENT);
            let request = request.instance_ids(machine.id.as_str()).comment("windlass");
            request.set_parameters(Some(parameters.clone())).send()
        });
        match answer.await {
            Ok(answer) => {
                let id = answer.command().and_then(|command| command.command_id());
                if let Some(id) = id {
                    hearing::say(&format!("SSM runs the script as command {id}"));
                    aws.write_paper(&kept, &Sent { command: id.to_owned() }).await?;
                    self.sent = Some(id.to_owned());
                }
                Ok(())
            }
            // It is sent again with the next look: the script runs once.
            Err(Error::Ambiguous(_)) => Ok(()),
            Err(Error::Failed(said)) if said.contains("InvalidInstanceId") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn is_managed(aws: &Aws, machine: &Machine) -> Result<bool, Error> {
    let filter =
        InstanceInformationStringFilter::builder().key("InstanceIds").values(machine.id.as_str()).build();
    let filter = filter.map_err(|error| Error::Failed(error.to_string()))?;
    let answer = aws.client.call(operations::DESCRIBE_INSTANCE_INFORMATION, |services| {
        services.ssm.describe_instance_information().filters(filter.clone()).send()
    });
    let answer = answer.await?;
    Ok(answer
        .instance_information_list()
        .iter()
        .any(|known| known.ping_status() == Some(&PingStatus::Online)))
}

/// What SSM says of a command that the builder itself has said nothing about.
async fn outcome(aws: &Aws, command: &str, machine: &Machine) -> Result<(), Error> {
    let answer = aws.client.call(operations::GET_COMMAND_INVOCATION, |services| {
        let request = services.ssm.get_command_invocation().command_id(command);
        request.instance_id(machine.id.as_str()).send()
    });
    let answer = match answer.await {
        Ok(answer) => answer,
        // It is not known everywhere yet.
        Err(Error::Failed(said)) if said.contains("InvocationDoesNotExist") => return Ok(()),
        Err(error) => return Err(error),
    };
    match answer.status() {
        Some(
            CommandInvocationStatus::Failed
            | CommandInvocationStatus::TimedOut
            | CommandInvocationStatus::Cancelled
            | CommandInvocationStatus::Cancelling,
        ) => {
            let said = answer.standard_error_content().unwrap_or_default().trim();
            let status = answer.status_details().unwrap_or("Failed");
            Err(Error::Failed(format!(
                "SSM says that command {command} on {} is {status}: {said}",
                machine.id
            )))
        }
        _ => Ok(()),
    }
}
