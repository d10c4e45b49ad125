//! `vethpath ping`: which hosts of a lab reach which.

use std::io::Write;

use super::{Exit, Failure, labs, up::privileged};
use crate::{
    cli::PingArgs,
    output::{self, grouped},
    reach::{self, MOST_PROBES, NotMeasured},
    topology::{NsName, Place, Topology, closest},
};

/// Prints the matrix of a lab.
pub fn run(arguments: &PingArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    privileged()?;
    let topology = labs::record(arguments.lab.lab.as_deref())?.topology;
    // The namespace of the fabric has bridges, and no host.
    let is_host = |name: &&NsName| !topology.is_fabric(&Place::Namespace((*name).clone()));
    let hosts: Vec<NsName> =
        topology.namespaces.iter().map(|namespace| &namespace.name).filter(is_host).cloned().collect();
    let from = chosen(&topology, &hosts, &arguments.from)?;
    let to = chosen(&topology, &hosts, &arguments.to)?;
    // Hosts that neither ask nor answer are left out.
    let hosts: Vec<NsName> =
        hosts.into_iter().filter(|name| from.contains(name) || to.contains(name)).collect();
    let matrix = reach::matrix(&topology.lab, &hosts, (&from, &to), arguments.within)?;
    let printed = match arguments.json.json {
        true => output::json(&matrix, out),
        false => output::reachability(&matrix, out),
    };
    printed.map_err(Failure::output)?;
    // A lab in which nothing can be tried, such as one that has got no addresses, is not one in which all is well.
    Ok(if matrix.reached == matrix.tried && matrix.tried > 0 { Exit::Done } else { Exit::Unmet })
}

/// The hosts that were named, or all.
fn chosen(topology: &Topology, hosts: &[NsName], named: &[String]) -> Result<Vec<NsName>, Failure> {
    if named.is_empty() {
        return Ok(hosts.to_vec());
    }
    let find = |text: &String| {
        hosts.iter().find(|host| host.as_str() == text).cloned().ok_or_else(|| {
            let near = closest(text, hosts.iter().map(NsName::as_str));
            let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let names: Vec<&str> = hosts.iter().take(20).map(NsName::as_str).collect();
            Failure::request(format!("lab `{}` has no host `{text}`", topology.lab))
                .hint(format!("{near}there are: {}", names.join(", ")))
        })
    };
    named.iter().map(find).collect()
}

impl From<NotMeasured> for Failure {
    fn from(error: NotMeasured) -> Self {
        match error {
            NotMeasured::TooMany(pairs) => {
                let number = |number: usize| grouped(u64::try_from(number).unwrap_or(u64::MAX));
                let (pairs, most) = (number(pairs), number(MOST_PROBES));
                Self::request(format!("these are {pairs} pairs of hosts, and {most} is the most"))
                    .hint("name some hosts with `--from` and `--to`")
            }
            NotMeasured::Kernel(error) if error.is_missing() => {
                Self::from(error).hint("`vethpath up FILE` makes hosts again that are gone")
            }
            NotMeasured::Kernel(error) => error.into(),
        }
    }
}
