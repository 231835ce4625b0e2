//! Where people and tests reach a fleet.

use aws_sdk_elasticloadbalancingv2::types::{ActionTypeEnum, Listener, ProtocolEnum};

use super::desk::Clerk;
use super::rules;
use crate::cloud::Error;
use crate::cloud::aws::client::Services;
use crate::cloud::aws::operations::DESCRIBE_LOAD_BALANCERS;

impl Clerk<'_> {
    /// The settings' `url`, else the name of the load balancer of the first target group, at the
    /// listener that forwards to it.
    ///
    /// # Errors
    /// No load balancer has the group, or it is gone.
    pub async fn url(&mut self) -> Result<String, Error> {
        if let Some(url) = &self.fleet.url {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        if let Some(url) = &self.book.url {
            return Ok(url.clone());
        }
        let group = self.book.groups.first();
        let group = group.ok_or_else(|| Error::NotFound("a target group of the fleet".to_owned()))?;
        let (name, arn) = (group.name.clone(), group.arn.clone());
        let balancer = group.load_balancers.first().cloned().ok_or_else(|| {
            Error::NotFound(format!(
                "a load balancer of the target group {name}: nobody would reach the fleet. Make a \
                 listener that forwards to it"
            ))
        })?;
        let send =
            |services: &Services| services.elb.describe_load_balancers().load_balancer_arns(&balancer).send();
        let described = self.client.call(DESCRIBE_LOAD_BALANCERS, send).await?;
        let host = described.load_balancers().first().and_then(|balancer| balancer.dns_name());
        let host = host.ok_or_else(|| Error::NotFound(format!("the load balancer {balancer}")))?;
        let listeners = rules::listeners(&self.client, &balancer).await?;
        let url = address(host, &listeners, &arn);
        self.book.url = Some(url.clone());
        Ok(url)
    }
}

/// The listener that forwards to the group by default, else the first: a rule of it does.
fn address(host: &str, listeners: &[Listener], group: &str) -> String {
    let forwards = |listener: &&Listener| {
        listener.default_actions().iter().any(|action| {
            let weighted = action.forward_config().map(|config| config.target_groups()).unwrap_or_default();
            action.r#type() == Some(&ActionTypeEnum::Forward)
                && (action.target_group_arn() == Some(group)
                    || weighted.iter().any(|tuple| tuple.target_group_arn() == Some(group)))
        })
    };
    let listener = listeners.iter().find(forwards).or_else(|| listeners.first());
    let secure = listener
        .is_some_and(|listener| matches!(listener.protocol(), Some(ProtocolEnum::Https | ProtocolEnum::Tls)));
    let (scheme, usual) = if secure { ("https", 443) } else { ("http", 80) };
    match listener.and_then(Listener::port) {
        Some(port) if port != usual => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_elasticloadbalancingv2::types::{Action, ForwardActionConfig, TargetGroupTuple};

    use super::*;

    fn listener(protocol: ProtocolEnum, port: i32, action: Action) -> Listener {
        Listener::builder().protocol(protocol).port(port).default_actions(action).build()
    }

    fn forward(group: &str) -> Action {
        Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(group).build()
    }

    #[test]
    fn the_port_is_shown_unless_it_is_the_usual_one() {
        let redirect = Action::builder().r#type(ActionTypeEnum::Redirect).build();
        let both = [
            listener(ProtocolEnum::Http, 80, redirect),
            listener(ProtocolEnum::Https, 443, forward("arn:a")),
            listener(ProtocolEnum::Http, 8080, forward("arn:b")),
        ];
        assert_eq!(address("lb.example", &both, "arn:a"), "https://lb.example");
        assert_eq!(address("lb.example", &both, "arn:b"), "http://lb.example:8080");
        assert_eq!(address("lb.example", &both, "arn:of-a-rule"), "http://lb.example");
        assert_eq!(address("lb.example", &[], "arn:a"), "http://lb.example");
    }

    #[test]
    fn a_weighted_forward_counts_too() {
        let tuple = TargetGroupTuple::builder().target_group_arn("arn:a").weight(0).build();
        let config = ForwardActionConfig::builder().target_groups(tuple).build();
        let action = Action::builder().r#type(ActionTypeEnum::Forward).forward_config(config).build();
        let listeners =
            [listener(ProtocolEnum::Tcp, 81, forward("arn:x")), listener(ProtocolEnum::Tls, 443, action)];
        assert_eq!(address("nlb.example", &listeners, "arn:a"), "https://nlb.example");
    }
}
