//! UDP and TCP on 15053.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use super::resolv_conf::ResolvConf;
use super::table::Table;
use crate::backoff::random_fraction;

/// Seconds that clients may keep an answer: short, as addresses change.
const TTL: u32 = 30;
/// A server of resolv.conf that takes longer is passed over.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// A TCP client that is silent for longer is let go.
const IDLE: Duration = Duration::from_secs(10);
/// Queries in work at once; more are dropped (UDP) or wait (TCP).
const IN_WORK: usize = 512;
/// Longest UDP answer to a client that did not say it takes more, in bytes.
const PLAIN_UDP: usize = 512;

/// Answers queries.
#[derive(Debug)]
pub struct Server {
    table: watch::Receiver<Option<Arc<Table>>>,
    upstream: ResolvConf,
    slots: Arc<Semaphore>,
}

/// Binds UDP and TCP on each address and answers until the task is dropped.
///
/// # Errors
/// If an address cannot be bound.
pub async fn bind(
    addresses: &[SocketAddr],
    table: watch::Receiver<Option<Arc<Table>>>,
    upstream: ResolvConf,
) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
    let server = Arc::new(Server {
        table,
        upstream,
        slots: Arc::new(Semaphore::new(IN_WORK)),
    });
    let mut sockets = Vec::new();
    for address in addresses {
        sockets.push((UdpSocket::bind(address).await?, TcpListener::bind(address).await?));
    }
    Ok(async move {
        let each = sockets.into_iter().map(|(udp, tcp)| {
            let server = server.clone();
            async move { tokio::join!(server.clone().udp(Arc::new(udp)), server.tcp(tcp)) }
        });
        futures::future::join_all(each).await;
    })
}

impl Server {
    async fn udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; 4096];
        loop {
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
                // What a client's machine refused is told once; anything else comes again at once: do not spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // A client asks again; it does not wait for a place.
            let Ok(slot) = self.slots.clone().try_acquire_owned() else {
                continue;
            };
            let (server, socket, query) = (self.clone(), socket.clone(), buffer[..length].to_vec());
            tokio::spawn(async move {
                if let Some(answer) = server.answer(&query, false).await {
                    let _ = socket.send_to(&answer, peer).await;
                }
                drop(slot);
            });
        }
    }

    async fn tcp(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok(slot) = self.slots.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tokio::spawn(async move {
                        let _ = server.connection(stream).await;
                        drop(slot);
                    });
                }
                // Out of descriptors, most likely: do not spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let query = tokio::time::timeout(IDLE, read_framed(&mut stream)).await??;
            match self.answer(&query, true).await {
                Some(answer) => write_framed(&mut stream, &answer).await?,
                None => return Ok(()),
            }
        }
    }

    /// The answer to a query; `None` for what is no query.
    async fn answer(&self, raw: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(raw)
            .ok()
            .filter(|m| m.metadata.message_type == MessageType::Query)?;
        let mut response = Message::response(query.metadata.id, query.metadata.op_code);
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_queries(query.queries.iter().cloned());
        let Some(question) = query.queries.first() else {
            response.metadata.response_code = ResponseCode::ServFail;
            return response.to_vec().ok();
        };
        let table = self.table.borrow().clone();
        let records = table.and_then(|table| records(&table, question.name(), question.query_type()));
        let Some(records) = records else {
            // Unknown, or no table yet: the servers of resolv.conf know what the pod knew without us.
            if let Some(answer) = self.ask_upstream(raw, tcp).await {
                return Some(answer);
            }
            response.metadata.response_code = ResponseCode::ServFail;
            return response.to_vec().ok();
        };
        // A known name without an address of the family is no error: clients that ask for both families at once would
        // take "no such name" for the whole answer.
        response.metadata.authoritative = true;
        response.add_answers(records);
        let limit = query
            .edns
            .as_ref()
            .map_or(PLAIN_UDP, |e| usize::from(e.max_payload()).max(PLAIN_UDP));
        let bytes = response.to_vec().ok()?;
        if tcp || bytes.len() <= limit {
            Some(bytes)
        } else {
            response.truncate().to_vec().ok()
        }
    }

    async fn ask_upstream(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        for server in &self.upstream.servers {
            let exchange = async {
                if tcp {
                    let mut stream = TcpStream::connect(server).await?;
                    write_framed(&mut stream, query).await?;
                    read_framed(&mut stream).await
                } else {
                    ask_udp(*server, query).await
                }
            };
            match tokio::time::timeout(UPSTREAM_TIMEOUT, exchange).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "DNS server does not answer"),
                Err(_) => tracing::debug!(%server, "DNS server does not answer in time"),
            }
        }
        None
    }
}

/// Answers for a known name, in an order that changes, so that clients spread; `None` if the name is not known.
fn records(table: &Table, name: &Name, kind: RecordType) -> Option<Vec<Record>> {
    let found = table.lookup(&name.to_string())?;
    let owner = match found.canonical {
        Some(host) => Name::from_ascii(format!("{host}.")).ok()?,
        None => name.clone(),
    };
    let mut addresses: Vec<Record> = match kind {
        RecordType::A => found
            .v4
            .iter()
            .map(|ip| Record::from_rdata(owner.clone(), TTL, RData::A(A(*ip))))
            .collect(),
        RecordType::AAAA => found
            .v6
            .iter()
            .map(|ip| Record::from_rdata(owner.clone(), TTL, RData::AAAA(AAAA(*ip))))
            .collect(),
        _ => Vec::new(),
    };
    if !addresses.is_empty() {
        let first = (random_fraction() * addresses.len() as f64) as usize % addresses.len();
        addresses.rotate_left(first);
    }
    if found.canonical.is_some() && !addresses.is_empty() {
        addresses.insert(0, Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(owner))));
    }
    Some(addresses)
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let local: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // The answer to this query, not a late one to another.
        if length >= 12 && query.len() >= 2 && buffer[..2] == query[..2] {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hickory_proto::op::Query;
    use xds::istio::networking::nds::v1::{NameTable, name_table::NameInfo};

    fn free() -> SocketAddr {
        ([127, 0, 0, 1], testkit::free_port()).into()
    }

    fn table(host: &str, ips: &[&str]) -> Table {
        let info = NameInfo {
            ips: ips.iter().map(|s| (*s).to_owned()).collect(),
            ..NameInfo::default()
        };
        Table::new(
            &NameTable {
                table: [(host.to_owned(), info)].into(),
            },
            "a",
            "a.svc.cluster.local",
            &["a.svc".into()],
        )
    }

    async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let answer = ask_udp(server, &query.to_vec().unwrap()).await.unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        (
            answer.metadata.response_code,
            answer.answers.iter().map(|r| r.data.to_string()).collect(),
        )
    }

    #[tokio::test]
    async fn known_names_here_others_upstream() {
        let upstream = free();
        let (_keep, their) = watch::channel(Some(Arc::new(table("example.org", &["192.0.2.1"]))));
        tokio::spawn(bind(&[upstream], their, ResolvConf::default()).await.unwrap());
        let here = free();
        let (publish, ours) = watch::channel(None);
        let conf = ResolvConf {
            servers: vec![upstream],
            search: Vec::new(),
        };
        tokio::spawn(bind(&[here], ours, conf).await.unwrap());

        let one = |ip: &str| (ResponseCode::NoError, vec![ip.to_owned()]);
        assert_eq!(
            ask(here, "example.org.", RecordType::A).await,
            one("192.0.2.1"),
            "before the first table"
        );
        publish.send_replace(Some(Arc::new(table("api.example.com", &["240.240.0.1"]))));
        assert_eq!(ask(here, "api.example.com.", RecordType::A).await, one("240.240.0.1"));
        assert_eq!(
            ask(here, "api.example.com.", RecordType::AAAA).await,
            (ResponseCode::NoError, vec![])
        );
        let expanded = (
            ResponseCode::NoError,
            vec!["api.example.com.".to_owned(), "240.240.0.1".to_owned()],
        );
        assert_eq!(ask(here, "api.example.com.a.svc.", RecordType::A).await, expanded);
        assert_eq!(ask(here, "example.org.", RecordType::A).await, one("192.0.2.1"));
        assert_eq!(
            ask(here, "nobody.example.", RecordType::A).await,
            (ResponseCode::ServFail, vec![])
        );
    }

    #[tokio::test]
    async fn long_answers_are_cut_for_udp_and_whole_over_tcp() {
        let here = free();
        let ips: Vec<String> = (0..100).map(|i| format!("10.0.0.{i}")).collect();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        let (_keep, ours) = watch::channel(Some(Arc::new(table("many.example.com", &ips))));
        tokio::spawn(bind(&[here], ours, ResolvConf::default()).await.unwrap());
        let mut query = Message::query();
        query.add_query(Query::query(
            Name::from_ascii("many.example.com.").unwrap(),
            RecordType::A,
        ));
        let raw = query.to_vec().unwrap();
        let cut = Message::from_vec(&ask_udp(here, &raw).await.unwrap()).unwrap();
        assert!(cut.metadata.truncation);
        let mut stream = TcpStream::connect(here).await.unwrap();
        write_framed(&mut stream, &raw).await.unwrap();
        let whole = Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap();
        assert_eq!(whole.answers.len(), 100);
    }
}
