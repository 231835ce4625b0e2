//! A plan for people.

use std::io::{self, Write};

use super::{Plan, PlannedStage};

pub(super) fn plan(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    let width = |of: fn(&PlannedStage) -> usize| plan.stages.iter().map(of).max().unwrap_or(0);
    let names = width(|stage| stage.name.len());
    let uses = width(|stage| stage.uses.len());
    let word = if plan.stages.len() == 1 { "stage" } else { "stages" };
    writeln!(out, "{}: {} {word}", plan.pipeline, plan.stages.len())?;
    let mut level = 0;
    for stage in &plan.stages {
        let number = if stage.level == level { String::new() } else { stage.level.to_string() };
        level = stage.level;
        writeln!(out, "{number:>4}  {:names$}  {:uses$}  {}", stage.name, stage.uses, stage.does)?;
        let indent = 4 + 2 + names + 2 + uses + 2;
        if !stage.needs.is_empty() {
            writeln!(out, "{:indent$}waits for {}", "", stage.needs.join(", "))?;
        }
        if let Some(condition) = &stage.condition {
            writeln!(out, "{:indent$}runs if {condition}", "")?;
        }
    }
    environments(plan, out)?;
    if !plan.params.is_empty() {
        writeln!(out, "\nparams")?;
    }
    for param in &plan.params {
        match &param.default {
            Some(default) => writeln!(out, "  {} = {default}", param.name)?,
            None => writeln!(out, "  {} must be given", param.name)?,
        }
    }
    if !plan.artifacts.is_empty() {
        writeln!(out, "\nartifacts and images")?;
    }
    for artifact in &plan.artifacts {
        let way = [vec![artifact.made_by.clone()], artifact.uploaded_by.clone(), artifact.baked_by.clone()];
        let way: Vec<String> =
            way.iter().filter(|stages| !stages.is_empty()).map(|stages| stages.join(", ")).collect();
        writeln!(out, "  {} ({}): {}", artifact.name, artifact.path, way.join(" → "))?;
    }
    for image in &plan.images {
        let to: Vec<&str> = image.certified_by.iter().chain(&image.deployed_by).map(String::as_str).collect();
        match to.is_empty() {
            true => writeln!(out, "  image: {}, used by no stage", image.baked_by)?,
            false => writeln!(out, "  image: {} → {}", image.baked_by, to.join(", "))?,
        }
    }
    Ok(())
}

fn environments(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    if !plan.environments.is_empty() {
        writeln!(out, "\nenvironments")?;
    }
    for environment in &plan.environments {
        write!(out, "  {}: entered at {}", environment.name, environment.first_stage)?;
        let Some(policy) = &environment.policy else {
            writeln!(out)?;
            continue;
        };
        match policy.promotion {
            "manual" => write!(out, ", once somebody promotes the run")?,
            _ => write!(out, ", promoted automatically")?,
        }
        if policy.certified_image {
            write!(out, "; takes a certified image only")?;
        }
        write!(out, "; group {}", policy.group)?;
        if let (Some(size), Some(port)) = (policy.size, policy.port) {
            write!(out, "; fleet of {size} at port {port}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
