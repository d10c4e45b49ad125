//! Many netlink requests in one system call.
//!
//! The kernel processes the messages of a datagram in order, and continues after one that it refuses
//! (`netlink_rcv_skb` in net/netlink/af_netlink.c). Requests that do not depend on each other's replies can
//! therefore be sent together.

use std::{collections::HashMap, time::Duration};

use netlink_packet_core::{Emitable, NLM_F_ACK, NLMSG_ERROR};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr};

use super::exchange::{self, DATAGRAM, ExchangeError, MOST_STRAYS};

/// How many requests are sent together. Each reply is an ack or one link, so that all replies fit the receive
/// buffer of the socket.
const TOGETHER: usize = 32;

/// Timeout per datagram. The kernel queues its replies during the system call that sends the requests.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Result of one request: the payload of its reply, which is empty for an ack.
pub(super) type Answer = Result<Vec<u8>, ExchangeError>;

/// Sends requests that change something, each with `NLM_F_ACK`. The results are in the order of the requests.
pub(super) fn change(
    socket: &Socket,
    requests: &[(RouteNetlinkMessage, u16)],
) -> Result<Vec<Answer>, ExchangeError> {
    let flagged = requests.iter().map(|(message, flags)| (message, flags | NLM_F_ACK));
    run(socket, flagged)
}

/// Sends requests whose reply is a single message.
pub(super) fn ask(socket: &Socket, questions: &[RouteNetlinkMessage]) -> Result<Vec<Answer>, ExchangeError> {
    run(socket, questions.iter().map(|message| (message, 0)))
}

fn run<'m>(
    socket: &Socket,
    requests: impl Iterator<Item = (&'m RouteNetlinkMessage, u16)>,
) -> Result<Vec<Answer>, ExchangeError> {
    exchange::set_timeouts(socket, TIMEOUT)?;
    let mut requests = requests.peekable();
    let mut answers = Vec::new();
    let mut payload = Vec::new();
    while requests.peek().is_some() {
        let mut bytes = Vec::new();
        let mut numbers = HashMap::new();
        for (position, (message, flags)) in requests.by_ref().take(TOGETHER).enumerate() {
            let number = exchange::sequence();
            numbers.insert(number, position);
            payload.clear();
            payload.resize(message.buffer_len(), 0);
            message.emit(&mut payload);
            bytes.extend(exchange::message(message.message_type(), flags, number, &payload));
        }
        socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map_err(ExchangeError::Send)?;
        collect(socket, &numbers, &mut answers)?;
    }
    Ok(answers)
}

/// Receives until each sequence number in `numbers` has a reply, and appends the replies in request order.
fn collect(
    socket: &Socket,
    numbers: &HashMap<u32, usize>,
    answers: &mut Vec<Answer>,
) -> Result<(), ExchangeError> {
    let mut found: Vec<Option<Answer>> = (0..numbers.len()).map(|_| None).collect();
    let (mut missing, mut strays) = (numbers.len(), 0);
    let mut buffer = Vec::with_capacity(DATAGRAM);
    while missing > 0 {
        exchange::receive(socket, &mut buffer)?;
        strays += 1;
        for message in exchange::messages(&buffer) {
            let message = message?;
            // Any other message is a late reply to a request that timed out.
            let Some(position) = numbers.get(&message.sequence) else { continue };
            let Some(slot @ None) = found.get_mut(*position) else { continue };
            *slot = Some(if message.kind == NLMSG_ERROR {
                match exchange::refusal(&message) {
                    Err(error @ ExchangeError::Malformed(_)) => return Err(error),
                    other => other.map(|()| Vec::new()),
                }
            } else {
                Ok(message.payload.to_vec())
            });
            missing -= 1;
            strays = 0;
        }
        if strays == MOST_STRAYS {
            return Err(ExchangeError::Malformed("no message has the sequence number of the request"));
        }
    }
    answers.extend(found.into_iter().flatten());
    Ok(())
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkMessage;
    use netlink_sys::protocols::NETLINK_ROUTE;
    use rtnetlink::LinkUnspec;

    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run as command};

    fn open() -> Socket {
        let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
        socket.bind(&SocketAddr::new(0, 0)).unwrap();
        socket
    }

    fn up(index: u32) -> (RouteNetlinkMessage, u16) {
        (RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(index).up().build()), 0)
    }

    #[test]
    fn a_refused_request_stops_none_of_those_behind_it() {
        in_new_namespace(|| {
            let socket = open();
            let mut requests: Vec<_> = (2..100).map(up).collect();
            requests.push(up(1));
            let answers = change(&socket, &requests).unwrap();
            assert_eq!(answers.len(), requests.len());
            let errno = |answer: &Answer| answer.as_ref().err().and_then(ExchangeError::errno);
            assert!(answers[..98].iter().all(|answer| errno(answer) == Some(nix::libc::ENODEV)));
            assert!(answers[98].is_ok());
            assert!(command("ip", &["-br", "link", "show", "lo"]).contains("UP"));
        });
    }

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        in_new_namespace(|| {
            for number in 0..50 {
                command(
                    "ip",
                    &[
                        "link",
                        "add",
                        &format!("d{number}"),
                        "type",
                        "veth",
                        "peer",
                        "name",
                        &format!("e{number}"),
                    ],
                );
            }
            let question = |number| {
                let message = LinkUnspec::new_with_name(&format!("d{number}")).build();
                RouteNetlinkMessage::GetLink(message)
            };
            let mut questions: Vec<_> = (0..50).rev().map(question).collect();
            questions.insert(25, RouteNetlinkMessage::GetLink(LinkMessage::default()));
            let answers = ask(&open(), &questions).unwrap();
            assert!(answers[25].is_err());
            for (position, answer) in answers.iter().enumerate().filter(|(position, _)| *position != 25) {
                let number = 49 + usize::from(position > 25) - position;
                let name = format!("d{number}\0");
                let payload = answer.as_ref().unwrap();
                assert!(payload.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name}");
            }
        });
    }
}
