//! Checks that the kernel's neighbour tables are large enough for a lab.

use std::io::{self, Write};

use super::labs;
use crate::{
    kernel::{
        NeighbourTable, Netns, neighbour_tables,
        probe::{Check, Status},
    },
    topology::{Family, LabName, Neighbours, Topology},
};

/// The entries that a table would need.
struct Demand {
    table: NeighbourTable,
    lab: Neighbours,
    /// The entries that other labs that are up need.
    others: usize,
}

impl Demand {
    fn entries(&self) -> usize {
        self.lab.entries + self.others
    }

    fn is_met(&self) -> bool {
        usize::try_from(self.table.limit).is_ok_and(|limit| self.entries() <= limit)
    }

    /// The hint, with extra room for hosts that talk to each other.
    fn advice(&self) -> String {
        let enough = (2 * self.entries()).next_power_of_two();
        format!("`sysctl -w {}={enough}` in the machine's first network namespace", self.table.family.limit())
    }
}

/// Warns of a neighbour table that is too small for this lab and those that are up, before anything is changed.
/// Does nothing if the tables cannot be read.
pub fn warn(topology: &Topology, err: &mut dyn Write) -> io::Result<()> {
    let Ok(tables) = Netns::current().and_then(|here| neighbour_tables(&here)) else { return Ok(()) };
    for table in tables {
        let family = table.family;
        let lab = Neighbours::of(topology, family);
        if lab.entries > 0 {
            warn_of(&topology.lab, &Demand { table, lab, others: of_others(&topology.lab, family) }, err)?;
        }
    }
    Ok(())
}

fn warn_of(lab: &LabName, demand: &Demand, err: &mut dyn Write) -> io::Result<()> {
    let Demand { table: NeighbourTable { family, limit, .. }, lab: own, others } = demand;
    if demand.is_met() {
        return Ok(());
    }
    let others = match others {
        0 => String::new(),
        others => format!(", and the labs that are up need {others}"),
    };
    let most = match &own.most {
        Some((device, neighbours)) => format!(": {device} has {neighbours} neighbours"),
        None => String::new(),
    };
    writeln!(
        err,
        "warning: lab {lab} needs {} entries of the {family} neighbour table{most}{others}; all namespaces of the machine \
         share {limit}, and packets to hosts that find no room are lost\nhint: {}",
        own.entries,
        demand.advice()
    )
}

/// The entries of a table that the other labs need.
fn of_others(lab: &LabName, family: Family) -> usize {
    let others = labs::all().unwrap_or_default().into_iter().filter(|(name, _)| name != lab);
    others.filter_map(|(_, record)| Some(Neighbours::of(&record.ok()?.topology, family).entries)).sum()
}

/// The checks of `doctor`: the tables, and the entries that the labs that are up need.
pub fn checks() -> Vec<Check> {
    let tables = Netns::current().and_then(|here| neighbour_tables(&here));
    let labs = labs::all().unwrap_or_default();
    let topologies: Vec<_> = labs.into_iter().filter_map(|(_, record)| Some(record.ok()?.topology)).collect();
    let check = |table: NeighbourTable| {
        let entries = topologies.iter().map(|topology| Neighbours::of(topology, table.family).entries).sum();
        check(&Demand { table, lab: Neighbours { entries, most: None }, others: 0 })
    };
    tables.unwrap_or_default().into_iter().map(check).collect()
}

fn check(demand: &Demand) -> Check {
    let NeighbourTable { family, entries, limit } = demand.table;
    let need = match demand.entries() {
        0 => String::new(),
        need => format!("; the labs that are up need {need}"),
    };
    let found = format!("{limit} entries at most, {entries} now{need}");
    let name = format!("{family} neighbour table");
    match demand.is_met() {
        true => Check { name, status: Status::Ok, found, advice: None },
        false => {
            let advice = Some(format!("packets to hosts that find no room are lost: {}", demand.advice()));
            Check { name, status: Status::Warning, found, advice }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(entries: usize, others: usize) -> Demand {
        let table = NeighbourTable { family: Family::Ipv4, entries: 12, limit: 1024 };
        Demand { table, lab: Neighbours { entries, most: Some(("bridge br0".to_owned(), 1200)) }, others }
    }

    #[test]
    fn a_table_that_is_too_small_is_warned_of() {
        let printed = |demand: &Demand| {
            let mut out = Vec::new();
            warn_of(&"large".parse().unwrap(), demand, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(&demand(1024, 0)), "");
        let expected = "warning: lab large needs 1025 entries of the IPv4 neighbour table: bridge br0 has 1200 neighbours; \
            all namespaces of the machine share 1024, and packets to hosts that find no room are lost\n\
            hint: `sysctl -w net.ipv4.neigh.default.gc_thresh3=4096` in the machine's first network namespace\n";
        assert_eq!(printed(&demand(1025, 0)), expected);
        assert!(printed(&demand(1000, 25)).contains("1200 neighbours, and the labs that are up need 25; "));
    }

    #[test]
    fn doctor_tells_the_limit_and_the_need() {
        let fine = check(&demand(10, 0));
        assert_eq!((fine.status, fine.advice), (Status::Ok, None));
        assert_eq!(fine.found, "1024 entries at most, 12 now; the labs that are up need 10");
        let short = check(&demand(2000, 0));
        assert!(short.status == Status::Warning && short.advice.unwrap().contains("gc_thresh3=4096`"));
    }
}
