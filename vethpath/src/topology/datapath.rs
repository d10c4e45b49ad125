//! Reads `datapath` of a bridge (for its ports) or of an interface (for its own port).

use super::{
    Datapath,
    fault::Sink,
    read::{At, Table},
};

/// The datapath, if the key is present. An unknown value is a fault and counts as `"tc"`.
pub(super) fn read(table: &Table<'_>, sink: &mut Sink) -> Option<At<Datapath>> {
    let written = table.text("datapath", sink)?;
    let datapath = match written.value {
        "tc" => Datapath::Tc,
        "xdp" => Datapath::Xdp,
        "bridge" => Datapath::Bridge,
        other => {
            let meant = sink
                .closest(other, ["tc", "xdp", "bridge"])
                .map_or(String::new(), |closest| format!("did you mean \"{closest}\"? "));
            let hint = format!(
                "{meant}write \"tc\" for the fast path, \"xdp\" for one that is made for frames without \
                 sockets, or \"bridge\" for a plain bridge"
            );
            sink.add(&written.span, format!("there is no datapath `{other}`"), hint);
            Datapath::Tc
        }
    };
    Some(written.with(datapath))
}
