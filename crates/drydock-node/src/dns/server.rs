//! The wire side: UDP and TCP, and the relay to the machine's resolver.

use super::zone::{Answer, Data, Kind, Zone};
use crate::error::{Error, Result};
use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

/// Seconds clients may keep an answer: short, as endpoints come and go.
const TTL: u32 = 5;
/// How long the machine's resolver may take, and a TCP client may be silent.
const UPSTREAM: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(10);
/// Queries in work at once.
const IN_FLIGHT: usize = 512;
/// Largest UDP answer without and with EDNS (bytes).
const PLAIN_UDP: usize = 512;
const EDNS_UDP: u16 = 1232;

/// The machine's resolvers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forward {
    servers: Vec<SocketAddr>,
}

impl Forward {
    /// From the text of a resolv.conf, leaving out `own` addresses (a cluster must not ask itself).
    pub(crate) fn from_resolv_conf(text: &str, own: IpAddr) -> Self {
        let servers = text
            .lines()
            .filter_map(|l| l.trim().strip_prefix("nameserver"))
            .filter_map(|ip| ip.trim().parse::<IpAddr>().ok());
        Self {
            servers: servers
                .filter(|ip| *ip != own)
                .take(3)
                .map(|ip| SocketAddr::new(ip, 53))
                .collect(),
        }
    }

    async fn ask(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        for server in &self.servers {
            let answer = tokio::time::timeout(UPSTREAM, async {
                if tcp {
                    ask_tcp(*server, query).await
                } else {
                    ask_udp(*server, query).await
                }
            })
            .await;
            if let Ok(Ok(answer)) = answer {
                return Some(answer);
            }
        }
        None
    }
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
    let mut buffer = vec![0; 4096];
    loop {
        let n = socket.recv(&mut buffer).await?;
        // The answer to this query, not a late one to another.
        if n >= 12 && buffer[..2] == query[..2] {
            buffer.truncate(n);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&frame(query)).await?;
    let mut buffer = vec![0; stream.read_u16().await? as usize];
    stream.read_exact(&mut buffer).await?;
    Ok(buffer)
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut out = length.to_be_bytes().to_vec();
    out.extend_from_slice(&message[..length as usize]);
    out
}

struct Server {
    zone: watch::Receiver<Option<Arc<Zone>>>,
    forward: Forward,
    slots: Arc<Semaphore>,
}

/// Binds `address` (UDP and TCP) and answers until dropped. While there is no zone, nothing is known, and no name is
/// denied.
pub(crate) async fn serve(
    address: SocketAddr,
    zone: watch::Receiver<Option<Arc<Zone>>>,
    forward: Forward,
) -> Result<impl Future<Output = ()>> {
    let failed = |e| Error::Network(format!("cluster DNS on {address}: {e}"));
    let udp = Arc::new(UdpSocket::bind(address).await.map_err(failed)?);
    let tcp = TcpListener::bind(address).await.map_err(failed)?;
    let server = Arc::new(Server {
        zone,
        forward,
        slots: Arc::new(Semaphore::new(IN_FLIGHT)),
    });
    Ok(async move {
        tokio::join!(server.clone().udp(udp), server.tcp(tcp));
    })
}

impl Server {
    async fn udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; 4096];
        loop {
            let Ok((n, peer)) = socket.recv_from(&mut buffer).await else {
                // What a client's machine refused is told once; anything else comes again at once: do not spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(slot) = self.slots.clone().try_acquire_owned() else {
                continue;
            };
            let (server, socket, query) = (self.clone(), socket.clone(), buffer[..n].to_vec());
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
            let length = tokio::time::timeout(IDLE, stream.read_u16())
                .await
                .map_err(std::io::Error::other)??;
            let mut query = vec![0; length as usize];
            tokio::time::timeout(IDLE, stream.read_exact(&mut query))
                .await
                .map_err(std::io::Error::other)??;
            match self.answer(&query, true).await {
                Some(answer) => stream.write_all(&frame(&answer)).await?,
                None => return Ok(()),
            }
        }
    }

    async fn answer(&self, raw: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(raw)
            .ok()
            .filter(|m| m.metadata.message_type == MessageType::Query)?;
        let mut response = Message::response(query.metadata.id, query.metadata.op_code);
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_queries(query.queries.iter().cloned());
        let Some(question) = query.queries.first() else {
            response.metadata.response_code = ResponseCode::FormErr;
            return response.to_vec().ok();
        };
        let Some(zone) = self.zone.borrow().clone() else {
            response.metadata.response_code = ResponseCode::ServFail;
            return response.to_vec().ok();
        };
        let records = match zone.lookup(&question.name().to_string(), kind(question.query_type())) {
            Answer::Elsewhere => {
                if let Some(answer) = self.forward.ask(raw, tcp).await {
                    return Some(answer);
                }
                response.metadata.response_code = ResponseCode::ServFail;
                return response.to_vec().ok();
            }
            Answer::Missing => {
                response.metadata.response_code = ResponseCode::NXDomain;
                vec![]
            }
            Answer::Records(records) => records,
        };
        response.metadata.authoritative = true;
        for data in &records {
            if let Some(rdata) = rdata(data) {
                response.add_answer(Record::from_rdata(question.name().clone(), TTL, rdata));
            }
        }
        if let [Data::Cname(target)] = records.as_slice() {
            response.add_answers(self.follow(&zone, target, question.query_type()).await);
        }
        if response.answers.is_empty() {
            response.add_authority(soa()?);
        }
        if query.edns.is_some() {
            let mut own = Edns::new();
            own.set_max_payload(EDNS_UDP).set_version(0);
            response.set_edns(own);
        }
        let limit = query
            .edns
            .as_ref()
            .map_or(PLAIN_UDP, |e| e.max_payload().clamp(512, EDNS_UDP) as usize);
        let bytes = response.to_vec().ok()?;
        if tcp || bytes.len() <= limit {
            return Some(bytes);
        }
        response.truncate().to_vec().ok()
    }

    /// What an ExternalName points to, if someone knows.
    async fn follow(&self, zone: &Zone, target: &str, kind_asked: RecordType) -> Vec<Record> {
        let Ok(name) = Name::from_ascii(format!("{target}.")) else {
            return vec![];
        };
        match zone.lookup(target, kind(kind_asked)) {
            Answer::Records(records) => records
                .iter()
                .filter_map(rdata)
                .map(|d| Record::from_rdata(name.clone(), TTL, d))
                .collect(),
            Answer::Missing => vec![],
            Answer::Elsewhere => {
                let mut query = Message::query();
                query.metadata.recursion_desired = true;
                query.add_query(hickory_proto::op::Query::query(name, kind_asked));
                let Ok(raw) = query.to_vec() else { return vec![] };
                let answer = self.forward.ask(&raw, false).await;
                answer
                    .and_then(|a| Message::from_vec(&a).ok())
                    .map(|m| m.answers)
                    .unwrap_or_default()
            }
        }
    }
}

fn kind(kind: RecordType) -> Kind {
    match kind {
        RecordType::A => Kind::A,
        RecordType::SRV => Kind::Srv,
        RecordType::PTR => Kind::Ptr,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

fn rdata(data: &Data) -> Option<RData> {
    let name = |text: &str| Name::from_ascii(format!("{text}.")).ok();
    Some(match data {
        Data::A(ip) => RData::A(A(*ip)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Srv { port, target } => RData::SRV(SRV::new(0, 100, *port, name(target)?)),
    })
}

/// Says how long "no such name" may be kept.
fn soa() -> Option<Record> {
    let (mname, rname) = (
        Name::from_ascii("ns.dns.cluster.local.").ok()?,
        Name::from_ascii("hostmaster.cluster.local.").ok()?,
    );
    let soa = SOA::new(mname, rname, 1, 7200, 1800, 86400, TTL);
    Some(Record::from_rdata(
        Name::from_ascii("cluster.local.").ok()?,
        TTL,
        RData::SOA(soa),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn answers_over_udp_and_tcp() {
        let service = serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "d"}, "spec": {"clusterIP": "10.96.0.5"}}),
        )
        .unwrap();
        let (_tx, rx) = watch::channel(Some(Arc::new(Zone::build("cluster.local", &[Arc::new(service)], &[]))));
        let free = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        tokio::spawn(serve(free, rx, Forward::default()).await.unwrap());
        let mut query = Message::query();
        query.add_query(hickory_proto::op::Query::query(
            Name::from_ascii("web.d.svc.cluster.local.").unwrap(),
            RecordType::A,
        ));
        let raw = query.to_vec().unwrap();
        for answer in [ask_udp(free, &raw).await.unwrap(), ask_tcp(free, &raw).await.unwrap()] {
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(
                answer.answers.iter().map(|r| r.data.to_string()).collect::<Vec<_>>(),
                ["10.96.0.5"]
            );
        }
        let mut other = Message::query();
        other.add_query(hickory_proto::op::Query::query(
            Name::from_ascii("example.com.").unwrap(),
            RecordType::A,
        ));
        let answer = ask_udp(free, &other.to_vec().unwrap()).await.unwrap();
        assert_eq!(
            Message::from_vec(&answer).unwrap().metadata.response_code,
            ResponseCode::ServFail
        );
        // Garbage gets no answer and does no harm.
        assert!(
            tokio::time::timeout(Duration::from_millis(100), ask_udp(free, &[0xff; 20]))
                .await
                .is_err()
        );
    }
}
