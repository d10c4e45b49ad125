//! The ways out where rules drop packets of a lab.

use super::{
    FORWARD,
    bridge::OnBridge,
    drop::{By, Kind},
};
use crate::{
    kernel::netfilter::{DOCKER_USER, Dropper, FILTER, Family},
    topology::{AcceptRule, Bridge, Place},
};

/// The table of firewalld, which no other program may change.
const FIREWALLD: &str = "firewalld";

/// The chains of ufw for what is forwarded, by family.
const UFW: [(Family, &str); 2] = [(Family::Ip, "ufw-before-forward"), (Family::Ip6, "ufw6-before-forward")];

impl OnBridge<'_> {
    /// The commands by which ufw accepts packets, and writes that down; `None` where there is no device to name. It accepts
    /// replies in any case.
    fn of_ufw(&self, kind: Kind, to: Option<&Bridge>) -> Option<String> {
        let enter = &self.machine.enter;
        let route = |from: &str, to: &str| format!("`{enter}ufw route allow in on {from} out on {to}`");
        let bridge = self.bridge.name.as_str();
        let commands: Vec<_> = match kind {
            Kind::Bridged => vec![route(bridge, bridge)],
            Kind::Sent => {
                let sent = self.accept_rules().into_iter().filter(|rule| !rule.are_replies);
                sent.map(|rule| route(&rule.bridge, &rule.uplink)).collect()
            }
            Kind::Replies => Vec::new(),
            Kind::Between => {
                let other = to.map_or("", |bridge| bridge.name.as_str());
                vec![route(bridge, other), route(other, bridge)]
            }
        };
        let verb = if commands.len() == 1 { "accepts" } else { "accept" };
        (!commands.is_empty()).then(|| format!("{} {verb} them", commands.join(", ")))
    }

    /// The ways out for packets of this kind, with the commands as a user types them.
    pub(super) fn hint(&self, kind: Kind, to: Option<&Bridge>, by: &By) -> String {
        let enter = &self.machine.enter;
        let is_of_bridge = matches!(kind, Kind::Bridged | Kind::Between);
        let bridge = self.device.filter(|_| !is_of_bridge).unwrap_or(&self.bridge.name);
        let name = if self.family == Family::Ip { "iptables" } else { "ip6tables" };
        let tool = match by {
            By::Legacy(_) | By::Chain(Dropper { is_legacy: true, .. }) => format!("{name}-legacy"),
            // The plain name may be that of either.
            By::Chain(_) if self.machine.has_legacy_filter(self.family) => format!("{name}-nft"),
            By::Chain(_) => name.to_owned(),
        };
        let accept = |chain: &str| {
            let rules: Vec<_> = match kind {
                Kind::Bridged => vec![format!("-i {bridge} -o {bridge} -j ACCEPT")],
                Kind::Between => {
                    let other = to.map_or("", |bridge| bridge.name.as_str());
                    [(bridge.as_str(), other), (other, bridge.as_str())]
                        .map(|(from, to)| format!("-i {from} -o {to} -j ACCEPT"))
                        .to_vec()
                }
                Kind::Sent | Kind::Replies => {
                    let is_of_kind = |rule: &AcceptRule| rule.are_replies == (kind == Kind::Replies);
                    let rules = self.accept_rules().into_iter().filter(is_of_kind);
                    rules.map(|rule| rule.to_string()).collect()
                }
            };
            let commands: Vec<_> =
                rules.iter().map(|rule| format!("`{enter}{tool} -I {chain} {rule}`")).collect();
            let verb = if commands.len() == 1 { "accepts" } else { "accept" };
            match &commands[..] {
                [] => format!("accept them in {chain}"),
                commands => format!("{} {verb} them", commands.join(", ")),
            }
        };
        let rule = match by {
            By::Chain(dropper @ Dropper { family, table, chain, .. })
                if (*family, table.as_str(), chain.as_str()) == (self.family, FILTER, FORWARD) =>
            {
                let has_jump = |to| self.machine.rules_of(dropper).has_jump(*family, table, FORWARD, to);
                let has_ufw = UFW.iter().any(|(of, chain)| of == family && has_jump(chain));
                match (has_jump(DOCKER_USER), self.of_ufw(kind, to)) {
                    (_, Some(commands)) if has_ufw => commands,
                    (true, _) => accept(DOCKER_USER),
                    (false, _) => accept(FORWARD),
                }
            }
            By::Chain(dropper) if dropper.table == FIREWALLD => {
                let other = to.map_or(String::new(), |to| format!(" --add-interface={}", to.name));
                let trust = format!("--zone=trusted --add-interface={bridge}{other}");
                format!(
                    "`{enter}firewall-cmd {trust} && {enter}firewall-cmd --permanent {trust}` accepts them, also after a \
                     restart of firewalld"
                )
            }
            By::Chain(dropper) => format!("accept them in {dropper}"),
            By::Legacy(table) if table.family == self.family => accept(FORWARD),
            By::Legacy(table) => format!("accept them in {table}"),
        };
        let is_of_bridge = match by {
            By::Chain(dropper) => dropper.family == Family::Bridge,
            By::Legacy(table) => table.family == Family::Bridge,
        };
        // The bridge's own option would still call them.
        let without = match kind {
            Kind::Bridged if !is_of_bridge && self.is_called(self.machine.calls) => format!(
                ", `{enter}sysctl -w net.bridge.bridge-nf-call-{name}=0` keeps bridged packets of this namespace from \
                 these rules"
            ),
            _ => String::new(),
        };
        // Packets to other networks pass the machine, wherever the bridge is.
        let elsewhere = match kind {
            Kind::Bridged if self.bridge.place == Place::Host => {
                "; preferably, write `fabric = true` at the top of the file, or use `--fabric`: the bridges are then in a \
                 namespace of the lab, which has no such rules"
            }
            Kind::Bridged => ", and a bridge in another `namespace` of the lab has no such rules",
            Kind::Sent | Kind::Replies | Kind::Between => "",
        };
        format!("{rule}{without}{elsewhere}")
    }
}
