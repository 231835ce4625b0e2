//! Whether an instance may be launched, asked by a dry run.

use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::operation::run_instances::RunInstancesOutput;
use aws_sdk_ec2::types::{
    IamInstanceProfileSpecification, InstanceType, ResourceType, Tag, TagSpecification,
};

use super::Doctor;
use super::network::Place;
use crate::cloud::Error;
use crate::cloud::aws::client::Client;
use crate::cloud::aws::operations::RUN_INSTANCES;
use crate::cloud::aws::tags;
use crate::ids::{ImageId, PipelineName};

impl Doctor<'_> {
    /// Asks for an instance without launching one. AWS then says what it is that would not do.
    pub(super) async fn may_launch(
        &mut self,
        client: &Client,
        place: &Place<'_>,
        profile: Option<&str>,
        image: Option<&ImageId>,
        service: Option<&PipelineName>,
    ) {
        let about = format!("{}: launching", place.about);
        let (Some(image), Some(service)) = (image, service) else {
            let says = "not tried: no image is known yet to launch from";
            return self.findings.unchecked(
                about,
                says,
                "name the pipeline: windlass doctor --pipeline FILE",
            );
        };
        let (Some(kind), Some(subnet)) = (place.types.first(), place.subnets.first()) else { return };
        let asked = client
            .call(RUN_INSTANCES, |services| {
                let tag = Tag::builder().key(tags::SERVICE).value(service.to_string()).build();
                let tagged = [ResourceType::Instance, ResourceType::Volume]
                    .map(|kind| TagSpecification::builder().resource_type(kind).tags(tag.clone()).build());
                let profile =
                    profile.map(|name| IamInstanceProfileSpecification::builder().name(name).build());
                let groups = (!place.security_groups.is_empty()).then(|| place.security_groups.to_vec());
                let request = services.ec2.run_instances().dry_run(true).min_count(1).max_count(1);
                let request =
                    request.image_id(image.to_string()).instance_type(InstanceType::from(kind.as_str()));
                let request = request.subnet_id(subnet).set_security_group_ids(groups);
                let request = request.set_iam_instance_profile(profile);
                let asked = request.set_tag_specifications(Some(tagged.to_vec())).send();
                async {
                    match asked.await {
                        // What a dry run that would have worked is answered with.
                        Err(error) if error.code() == Some("DryRunOperation") => {
                            Ok(RunInstancesOutput::builder().build())
                        }
                        other => other,
                    }
                }
            })
            .await;
        match asked {
            Ok(_) => self.findings.ok(about, format!("allowed: {kind} from {image} in {subnet}")),
            Err(Error::Failed(says))
                if says.contains("iamInstanceProfile") || says.contains("Instance Profile") =>
            {
                let next = format!("aws iam create-instance-profile, or mend profile in {}", place.settings);
                self.findings.missing(about, says, next);
            }
            Err(Error::Failed(says)) => {
                self.findings.missing(about, says, format!("mend {} in the settings", place.settings));
            }
            Err(error) => {
                self.findings.failed(about, &error, "windlass policy prints what has to be allowed")
            }
        }
    }
}
