//! Launch templates: each release has a version of its own, and the group names that version, never
//! `$Latest`. What it does not say itself, its instance type and network, it has of the version that
//! the group used before Windlass: its base.
//!
//! A version is found again by its description, so that a release has one, whoever was killed when.

use aws_sdk_ec2::types::{
    LaunchTemplateTagSpecificationRequest, LaunchTemplateVersion, RequestLaunchTemplateData, ResourceType,
    ResponseLaunchTemplateData, Tag,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Memory;
use super::group::{Group, Template};
use crate::cloud::aws::client::Client;
use crate::cloud::aws::launch_data::{self, For};
use crate::cloud::aws::{operations, tags};
use crate::cloud::{Error, Launch};
use crate::ids::Digest;

/// "The maximum is 200" (DescribeLaunchTemplateVersions).
const PAGE: i32 = 200;
/// "User data is limited to 16 KB, in raw form" (EC2 User Guide).
const USER_DATA: usize = 16 * 1024;

/// What was pinned last: of which template and release, and its number.
#[derive(Debug, Clone)]
pub struct Pinned {
    template: String,
    release: Digest,
    number: i64,
}

/// The number of the version for what is launched; it is made where there is none.
pub async fn version_for(
    client: &Client,
    group: &Group,
    launch: &Launch,
    port: u16,
    memory: &mut Memory,
) -> Result<i64, Error> {
    let template = group.template()?;
    let of_it = |pinned: &&Pinned| {
        let same = pinned.template == template.id && pinned.release == launch.release;
        same && pinned.number.to_string() == template.version
    };
    if let Some(pinned) = memory.pinned.as_ref().filter(of_it) {
        return Ok(pinned.number);
    }
    let used = used(client, &template).await?;
    let base = base_of(&used);
    let description = described(&launch.release, base, port);
    let known = match used.version_description() == Some(description.as_str()) {
        true => used.version_number(),
        false => find(client, &template.id, &description).await?,
    };
    let number = match known {
        Some(number) => number,
        None => make(client, &template.id, &used, base, &description, launch, port).await?,
    };
    memory.pinned = Some(Pinned { template: template.id, release: launch.release.clone(), number });
    Ok(number)
}

/// The number of the version that the group used before Windlass gave it any.
pub async fn base(client: &Client, group: &Group) -> Result<i64, Error> {
    Ok(base_of(&used(client, &group.template()?).await?))
}

/// The instance types that the group launches, as far as it names any.
pub async fn types(client: &Client, group: &Group) -> Result<Vec<String>, Error> {
    let mixed = group.all.mixed_instances_policy().and_then(|policy| policy.launch_template());
    let overrides = mixed.map(|template| template.overrides()).unwrap_or_default();
    let named: Vec<String> = overrides.iter().filter_map(|o| o.instance_type().map(str::to_owned)).collect();
    if !overrides.is_empty() {
        return Ok(named);
    }
    let used = used(client, &group.template()?).await?;
    let own = used.launch_template_data().and_then(|data| data.instance_type());
    Ok(own.map(|own| own.as_str().to_owned()).into_iter().collect())
}

/// What tells versions apart: the release is image and environment, the rest comes from elsewhere.
fn described(release: &Digest, base: i64, port: u16) -> String {
    format!("windlass release={release} base={base} port={port}")
}

fn base_of(version: &LaunchTemplateVersion) -> i64 {
    let ours = version.version_description().and_then(|text| text.strip_prefix("windlass release="));
    let base =
        ours.and_then(|text| text.split(' ').find_map(|word| word.strip_prefix("base=")?.parse().ok()));
    base.or(version.version_number()).unwrap_or(1)
}

/// The version that the group launches now.
async fn used(client: &Client, template: &Template) -> Result<LaunchTemplateVersion, Error> {
    version(client, &template.id, &template.version).await
}

async fn version(client: &Client, template: &str, version: &str) -> Result<LaunchTemplateVersion, Error> {
    let shown = client
        .call(operations::DESCRIBE_LAUNCH_TEMPLATE_VERSIONS, |services| {
            let ask = services.ec2.describe_launch_template_versions().launch_template_id(template);
            ask.versions(version).send()
        })
        .await?;
    let shown = shown.launch_template_versions.unwrap_or_default().into_iter().next();
    shown.ok_or_else(|| Error::NotFound(format!("version {version} of the launch template {template}")))
}

/// The version with this description: the first one, should there be several.
async fn find(client: &Client, template: &str, description: &str) -> Result<Option<i64>, Error> {
    let mut found: Option<i64> = None;
    let mut next: Option<String> = None;
    loop {
        let page = client
            .call(operations::DESCRIBE_LAUNCH_TEMPLATE_VERSIONS, |services| {
                let ask = services.ec2.describe_launch_template_versions().launch_template_id(template);
                ask.max_results(PAGE).set_next_token(next.clone()).send()
            })
            .await?;
        let ours = page.launch_template_versions().iter();
        let ours = ours.filter(|version| version.version_description() == Some(description));
        found = ours.filter_map(LaunchTemplateVersion::version_number).chain(found).min();
        match page.next_token() {
            Some(token) if !token.is_empty() => next = Some(token.to_owned()),
            _ => return Ok(found),
        }
    }
}

async fn make(
    client: &Client,
    template: &str,
    used: &LaunchTemplateVersion,
    base: i64,
    description: &str,
    launch: &Launch,
    port: u16,
) -> Result<i64, Error> {
    let source = match used.version_number() == Some(base) {
        true => used.clone(),
        false => version(client, template, &base.to_string()).await?,
    };
    let empty = ResponseLaunchTemplateData::builder().build();
    let source = source.launch_template_data().unwrap_or(&empty);
    let ours = launch_data::user_data(launch, port, For::Any)?;
    let user_data = with_theirs(source.user_data(), ours, launch)?;
    let data = RequestLaunchTemplateData::builder()
        .image_id(launch.image.as_str())
        .user_data(user_data)
        // These it would have of its source too: this way the version itself shows them.
        .set_instance_type(source.instance_type().cloned())
        .set_security_group_ids(source.security_group_ids.clone())
        .set_tag_specifications(Some(tag_specifications(source, launch)))
        .build();
    // Whoever asks for the same again, in the same words, is given the same.
    let said = format!("{template} {description} {} {}", launch.tags.run, launch.tags.stage);
    let token = Digest::of(said.as_bytes()).to_string();
    let made = client
        .call(operations::CREATE_LAUNCH_TEMPLATE_VERSION, |services| {
            let create = services.ec2.create_launch_template_version().launch_template_id(template);
            let create = create.source_version(base.to_string()).version_description(description);
            create.launch_template_data(data.clone()).client_token(&token).send()
        })
        .await;
    let made = match made {
        Ok(made) => made.launch_template_version().and_then(LaunchTemplateVersion::version_number),
        Err(Error::Ambiguous(_)) => find(client, template, description).await?,
        Err(error) => return Err(error),
    };
    made.ok_or_else(|| {
        Error::Ambiguous(format!("whether the launch template {template} has a version for {}", launch.image))
    })
}

/// Both, where the base version has user data of its own: cloud-init takes them as parts of one
/// message, and tells by its first line what each part is ("User-data formats", cloud-init).
fn with_theirs(theirs: Option<&str>, ours: String, launch: &Launch) -> Result<String, Error> {
    let refused = |why: &str| {
        Error::Denied(format!(
            "the user data of the launch template of {} {why}: what an instance needs belongs into the image, \
             and PORT and env are added by Windlass",
            launch.fleet
        ))
    };
    let Some(theirs) = theirs.filter(|theirs| !theirs.is_empty()) else { return Ok(ours) };
    let text = |data: &str| STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let theirs = text(theirs).ok_or_else(|| refused("is no text that something could be added to"))?;
    if theirs.trim_start().starts_with('<') {
        return Err(refused("is not for cloud-init"));
    }
    let script = text(&ours).ok_or_else(|| refused("cannot be added to"))?;
    let end = format!("==windlass-{}==", Digest::of(format!("{theirs}\0{script}").as_bytes()).short());
    let is_message = ["MIME-Version:", "Content-Type:"].iter().any(|head| theirs.starts_with(head));
    let head = if is_message { "" } else { "Content-Type: text/plain; charset=\"utf-8\"\n\n" };
    let both = format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{end}\"\n\n\
         --{end}\n{head}{theirs}\n\
         --{end}\nContent-Type: text/x-shellscript; charset=\"utf-8\"\n\n{script}\n\
         --{end}--\n"
    );
    if both.len() > USER_DATA {
        return Err(refused(&format!("is too long: with the environment it is {} bytes", both.len())));
    }
    Ok(STANDARD.encode(both))
}

/// The tags of what is launched: those of the base version, and ours. A key is given to an instance
/// when it is found.
fn tag_specifications(
    source: &ResponseLaunchTemplateData,
    launch: &Launch,
) -> Vec<LaunchTemplateTagSpecificationRequest> {
    let mut ours: Vec<(String, String)> =
        tags::of(&launch.tags).into_iter().filter(|(name, _)| name != tags::KEY).collect();
    let fleet = &launch.fleet;
    let name = launch.name.rsplit_once('-').map_or(launch.name.as_str(), |(name, _)| name);
    let more = [
        (tags::FLEET, fleet.to_string()),
        (tags::ENVIRONMENT, fleet.environment.to_string()),
        (tags::RELEASE, launch.release.to_string()),
        (tags::NAME, name.to_owned()),
    ];
    ours.extend(more.map(|(name, value)| (name.to_owned(), value)));
    let tag = |(key, value): &(String, String)| Tag::builder().key(key).value(value).build();
    let of = |resource: ResourceType| {
        let theirs = source.tag_specifications().iter().filter(|s| s.resource_type() == Some(&resource));
        let theirs = theirs.flat_map(|specification| specification.tags());
        let theirs =
            theirs.filter(|theirs| !ours.iter().any(|(name, _)| Some(name.as_str()) == theirs.key()));
        let all: Vec<Tag> = theirs.cloned().chain(ours.iter().map(tag)).collect();
        LaunchTemplateTagSpecificationRequest::builder().resource_type(resource).set_tags(Some(all)).build()
    };
    let both = [ResourceType::Instance, ResourceType::Volume];
    let others = source.tag_specifications().iter().filter(|specification| {
        specification.resource_type().is_some_and(|resource| !both.contains(resource))
    });
    let others = others.map(|specification| {
        let tags = LaunchTemplateTagSpecificationRequest::builder().set_tags(specification.tags.clone());
        tags.set_resource_type(specification.resource_type.clone()).build()
    });
    let mut all: Vec<_> = others.collect();
    all.extend(both.map(of));
    all
}

#[cfg(test)]
mod tests;
