//! A blocking route netlink socket in one namespace, for requests in bulk.

use netlink_packet_core::{
    Emitable as _, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NlasIterator, Parseable as _,
};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
    nsid::{NsidAttribute, NsidMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    Context, ExchangeError, LinkFacts, Netns, Result, exchange,
    pipeline::{self, Answer},
    sockets,
};

/// Flags of a request that fails if the object exists.
pub(super) const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Flags of a request that replaces an existing object.
pub(super) const PUT: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// One change to request, with operation and object for its error.
pub(super) struct Request {
    pub(super) message: Message,
    pub(super) flags: u16,
    pub(super) operation: &'static str,
    pub(super) object: String,
}

/// The kernel's message about a link.
pub struct RawLink(pub(super) Vec<u8>);

impl RawLink {
    /// Its ifindex (`struct ifinfomsg`).
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.0.get(4..8).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes).unwrap_or_default()
    }

    /// The bytes of the message, for comparison.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The counters of the link: see [`Direct::counters`].
    ///
    /// # Errors
    /// The message cannot be parsed.
    pub fn counters(&self) -> Result<LinkFacts> {
        parse_counters(&self.0).doing("read", "a link")
    }

    /// Parses the message.
    ///
    /// # Errors
    /// The message cannot be parsed.
    pub fn read(&self) -> Result<LinkFacts> {
        parse(&self.0).doing("read", "a link")
    }
}

/// Operations of errors.
const SPEAK: &str = "speak with namespace";
const LIST: &str = "list links of";

/// Requests in bulk. A call returns after its replies have been received.
pub struct Direct {
    socket: Socket,
    netns: Netns,
}

impl Direct {
    /// Connects to `netns`.
    ///
    /// # Errors
    /// A socket cannot be opened there.
    pub fn open(netns: &Netns) -> Result<Self> {
        netns.run(|| Self::here(netns))?
    }

    /// Moves the calling thread into `netns` for good, and connects to it. For threads of a [pool](super::pool).
    ///
    /// # Errors
    /// The namespace cannot be entered, or a socket cannot be opened there.
    pub fn entering(netns: &Netns) -> Result<Self> {
        netns.enter_for_good()?;
        Self::here(netns)
    }

    /// Connects to `netns`, which the calling thread is in.
    pub(super) fn here(netns: &Netns) -> Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            // The kernel refuses messages from other processes to a connected socket.
            socket.connect(&SocketAddr::new(0, 0))?;
            // It holds the replies to requests that are sent together. If refused, the default is enough.
            let _ = sockets::force_receive_buffer(&socket);
            Ok::<_, std::io::Error>(socket)
        };
        let socket = open().doing("open a netlink socket in namespace", netns)?;
        Ok(Self { socket, netns: netns.clone() })
    }

    /// The namespace that it is connected to.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Requests changes, which the kernel makes in this order. Returns the result of each.
    pub(super) fn change(&self, requests: Vec<Request>) -> Result<Vec<Result<()>>> {
        let (messages, names): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| ((request.message, request.flags), (request.operation, request.object)))
            .unzip();
        let answers = pipeline::change(&self.socket, &messages).doing(SPEAK, &self.netns)?;
        let told = |(answer, (operation, object)): (Answer, (&'static str, String))| {
            answer.map(drop).doing(operation, object)
        };
        Ok(answers.into_iter().zip(names).map(told).collect())
    }

    /// Requests links. Returns the bytes of each link's message, or the error.
    pub(super) fn ask(
        &self,
        questions: &[Message],
    ) -> Result<Vec<std::result::Result<Vec<u8>, ExchangeError>>> {
        pipeline::ask(&self.socket, questions).doing(SPEAK, &self.netns)
    }

    /// All links of the namespace. Without `counting`, the counters are left out, and are zero.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn links(&self, counting: bool) -> Result<Vec<LinkFacts>> {
        self.list(counting)?.iter().map(|answer| parse(answer).doing(LIST, &self.netns)).collect()
    }

    /// The same without counters, unparsed: only messages that have changed need [`RawLink::read`].
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn raw_links(&self) -> Result<Vec<RawLink>> {
        Ok(self.list(false)?.into_iter().map(RawLink).collect())
    }

    fn list(&self, counting: bool) -> Result<Vec<Vec<u8>>> {
        let mut question = LinkMessage::default();
        leave_out_counters(&mut question, counting);
        let mut payload = vec![0; question.buffer_len()];
        question.emit(&mut payload);
        exchange::dump(&self.socket, RTM_GETLINK, &payload).doing(LIST, &self.netns)
    }

    /// The same with only what counting needs: ifindex, name, the other end, and counters.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn counters(&self, counting: bool) -> Result<Vec<LinkFacts>> {
        self.list(counting)?.iter().map(|answer| parse_counters(answer).doing(LIST, &self.netns)).collect()
    }

    /// The netns id that another namespace has here, as in [`LinkFacts::peer_netns`]. `None` if it has none.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub fn number_of(&self, other: &Netns) -> Result<Option<i32>> {
        let mut question = NsidMessage::default();
        question.attributes.push(NsidAttribute::Fd(other.raw_fd().cast_unsigned()));
        let answer = self.ask(&[Message::GetNsId(question)])?.into_iter().next();
        let malformed = |_| ExchangeError::Malformed("a namespace id cannot be parsed");
        let parse = |payload: Vec<u8>| NsidMessage::parse(&payload).map_err(malformed);
        let told = answer.map(|answer| answer.and_then(parse)).transpose();
        let Some(told) = told.doing("look up the id of namespace", other)? else { return Ok(None) };
        Ok(told.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(id @ 0..) => Some(*id),
            _ => None,
        }))
    }
}

const RTM_GETLINK: u16 = 18;

/// Parses one link's message.
pub(super) fn parse(payload: &[u8]) -> std::result::Result<LinkFacts, ExchangeError> {
    let malformed = || ExchangeError::Malformed("a link cannot be parsed");
    let message = LinkMessage::parse(payload).or_else(|_| LinkMessage::parse(&in_ascii(payload)));
    message.map(LinkFacts::parse).map_err(|_| malformed())
}

/// A link's message with `?` for each byte that is not ASCII in its names and its alias. The kernel takes any bytes but
/// `/`, `:` and spaces in a name (`dev_valid_name` in net/core/dev.c), and any in an alias.
fn in_ascii(payload: &[u8]) -> Vec<u8> {
    // `struct ifinfomsg`, `struct nlattr`, its flags, and attributes of linux/if_link.h.
    const HEADER: usize = 16;
    const ATTRIBUTE: usize = 4;
    const FLAGS: u16 = 0xc000;
    const TEXTS: [u16; 4] = [3, 20, 38, 53];
    const PROP_LIST: u16 = 52;
    fn clean(mut rest: &mut [u8]) {
        while let Some((header, _)) = rest.split_first_chunk::<ATTRIBUTE>() {
            let [length, kind] = [0, 2].map(|at| u16::from_ne_bytes([header[at], header[at + 1]]));
            let length = usize::from(length).clamp(ATTRIBUTE, rest.len());
            let (attribute, more) = rest.split_at_mut(length.next_multiple_of(ATTRIBUTE).min(rest.len()));
            let value = &mut attribute[ATTRIBUTE..length];
            match kind & !FLAGS {
                PROP_LIST => clean(value),
                kind if TEXTS.contains(&kind) => {
                    value.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
                }
                _ => {}
            }
            rest = more;
        }
    }
    let mut cleaned = payload.to_vec();
    cleaned.get_mut(HEADER..).map(clean);
    cleaned
}

/// Parses only what counting needs of one link's message, which takes a tenth of the time.
pub(super) fn parse_counters(payload: &[u8]) -> std::result::Result<LinkFacts, ExchangeError> {
    // `struct ifinfomsg` with its ifindex, `struct rtnl_link_stats64`, and attributes of linux/if_link.h.
    const HEADER: usize = 16;
    const NAME: u16 = 3;
    const LINK: u16 = 5;
    const STATS64: u16 = 23;
    const LINK_NETNSID: u16 = 37;
    let malformed = || ExchangeError::Malformed("a link cannot be parsed");
    let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or_else(malformed)?;
    let word = |bytes: &[u8], at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let mut link = LinkFacts { ifindex: word(header, 4).unwrap_or_default(), ..LinkFacts::default() };
    for attribute in NlasIterator::new(rest) {
        let attribute = attribute.map_err(|_| malformed())?;
        let value = attribute.value();
        let long = |at: usize| {
            let bytes = value.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_ne_bytes).unwrap_or_default()
        };
        match attribute.kind() {
            NAME => link.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            LINK => link.peer = word(value, 0),
            LINK_NETNSID => link.peer_netns = word(value, 0).map(u32::cast_signed),
            STATS64 => {
                (link.received, link.sent) = ((long(0), long(2)), (long(1), long(3)));
                (link.dropped, link.refused) = (long(6), long(7));
            }
            _ => {}
        }
    }
    Ok(link)
}

/// Asks the kernel to skip the counters of a link, which take longest to sum up.
pub(super) fn leave_out_counters(question: &mut LinkMessage, counting: bool) {
    if !counting {
        question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{Error, VethEnd, link_batch::NewVeth, sandbox::in_new_namespace},
        topology::IfName,
    };

    #[test]
    fn the_number_of_a_namespace_is_that_of_the_other_ends_in_it() {
        in_new_namespace(|| {
            let (here, [one, two]) =
                (Netns::current().unwrap(), ["one", "two"].map(|name| Netns::create(name).unwrap()));
            let direct = Direct::open(&here).unwrap();
            assert_eq!(direct.number_of(&one).unwrap(), None, "nothing leads there");
            let names: [IfName; 3] = ["va", "vb", "e"].map(|name| name.parse().unwrap());
            let mac = |last| crate::topology::Mac::unicast([2, 0, 0, 0, 0, last]).unwrap();
            let end = |name, last| VethEnd { name, mac: mac(last), bridge: None };
            let pair = |name, last, peer_netns| NewVeth {
                end: end(name, last),
                peer: end(&names[2], last + 1),
                peer_netns,
                mtu: None,
            };
            let made = direct.create_veths(&[pair(&names[0], 1, &one), pair(&names[1], 3, &two)]).unwrap();
            assert!(made.iter().all(Result::is_ok), "{made:?}");
            let links = direct.links(false).unwrap();
            let peer_netns = |name: &str| links.iter().find(|link| link.name == name).unwrap().peer_netns;
            let numbers = [&one, &two].map(|netns| direct.number_of(netns).unwrap());
            assert_eq!(numbers, [peer_netns("va"), peer_netns("vb")]);
            assert!(numbers[0].is_some() && numbers[0] != numbers[1]);
            assert_eq!(direct.number_of(&here).unwrap(), Some(0), "found before all others");
            let again = direct.create_veths(&[pair(&names[0], 5, &one)]).unwrap();
            assert!(again[0].as_ref().is_err_and(Error::is_present), "{again:?}");
        });
    }
}
