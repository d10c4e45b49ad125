//! The line that states a lab's name and its agent's status.

use crate::{output::number::seconds, stats::Agent, topology::LabName};

/// One line, with a trailing newline.
pub fn headline(lab: &LabName, agent: &Agent) -> String {
    let Agent { alive, pid, lease_ms, lease_left_ms, .. } = agent;
    let text = match (alive, pid, lease_left_ms) {
        (true, Some(pid), _) => format!("agent alive (pid {pid}), lease {}", seconds(*lease_ms)),
        (true, None, _) => format!("agent alive, lease {}", seconds(*lease_ms)),
        (false, _, 0) => "agent dead: plain bridge; `vethpath up` brings it back".to_owned(),
        (false, _, left) => format!("agent dead: plain bridge when the lease ends in {}", seconds(*left)),
    };
    format!("lab {lab}: {text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(alive: bool, lease_left_ms: u64) -> String {
        let (pid, lease_ms) = if alive { (Some(4242), 3000) } else { (None, 0) };
        let agent = Agent { alive, pid, lease_ms, lease_left_ms, capabilities: Vec::new() };
        headline(&"lab".parse().unwrap(), &agent)
    }

    #[test]
    fn an_agent_is_alive_or_what_its_death_means_is_said() {
        assert_eq!(line(true, 2_500), "lab lab: agent alive (pid 4242), lease 3 s\n");
        assert_eq!(line(false, 1_234), "lab lab: agent dead: plain bridge when the lease ends in 1.2 s\n");
        assert_eq!(line(false, 0), "lab lab: agent dead: plain bridge; `vethpath up` brings it back\n");
    }
}
