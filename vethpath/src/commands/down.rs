//! `vethpath down`.

use super::{Exit, Failure, failure::runtime, labs, up::privileged};
use crate::{
    apply,
    topology::{LabName, Topology},
};

/// Takes one lab down, or all. An interrupt stops it at the lab that it is at.
pub fn run(lab: Option<&str>, all: bool) -> Result<Exit, Failure> {
    privileged()?;
    if !all {
        let (name, file) = labs::named(lab)?;
        return one(&name, file.as_ref());
    }
    let mut worst = Exit::Done;
    for name in labs::names()? {
        if let Err(failure) = one(&name, None) {
            if failure.is_interruption() {
                return Err(failure);
            }
            failure.report(&mut std::io::stderr().lock());
            worst = Exit::System;
        }
    }
    Ok(worst)
}

fn one(name: &LabName, file: Option<&Topology>) -> Result<Exit, Failure> {
    let left = match runtime()?.block_on(apply::down(name, file)) {
        Ok(()) => {
            eprintln!("lab {name} is down");
            return Ok(Exit::Done);
        }
        Err(left) => left,
    };
    match <[apply::Error; 1]>::try_from(left) {
        Ok([error]) => Err(error.into()),
        Err(left) => {
            let list: Vec<_> = left.iter().map(ToString::to_string).collect();
            Err(Failure::system(list.join("\n"))
                .hint("everything else is removed; `vethpath down` tries again"))
        }
    }
}
