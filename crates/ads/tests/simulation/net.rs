//! The network between proxies and control planes, as TCP shows it to them: bytes arrive late, but whole and in order,
//! or a connection breaks, or nobody says that it broke.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::random::Random;

/// Bytes that one side may be ahead at each hop.
const BUFFER: usize = 8 << 10;
/// Packets under way on one link.
const PACKETS: usize = 8;
/// What a lost packet costs until it is sent again.
const RETRANSMISSION: Duration = Duration::from_millis(300);

/// How it is at the moment.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// Longest delay of a packet in milliseconds.
    pub latency: u32,
    /// One packet in so many is lost and sent again; none if 0.
    pub loss: u32,
    /// Clients that nothing reaches and that reach nobody.
    pub parted: BTreeSet<usize>,
}

/// All links.
#[derive(Clone, Debug)]
pub struct Net(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    random: Mutex<Random>,
    weather: watch::Sender<Weather>,
    /// Where each replica takes connections; none while it is down.
    replicas: Mutex<Vec<Option<mpsc::UnboundedSender<io::Result<DuplexStream>>>>>,
    links: Mutex<Vec<Link>>,
}

#[derive(Debug)]
struct Link {
    client: usize,
    replica: usize,
    lost: watch::Sender<bool>,
    task: AbortHandle,
}

impl Net {
    pub fn new(random: Random, replicas: usize) -> Self {
        Self(Arc::new(Inner {
            random: Mutex::new(random),
            weather: watch::Sender::new(Weather::default()),
            replicas: Mutex::new(vec![None; replicas]),
            links: Mutex::default(),
        }))
    }

    pub fn set_weather(&self, weather: Weather) {
        self.0.weather.send_replace(weather);
    }

    /// A replica starts to take connections.
    pub fn listen(&self, replica: usize) -> mpsc::UnboundedReceiver<io::Result<DuplexStream>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.replicas.lock().unwrap()[replica] = Some(sender);
        receiver
    }

    /// A replica ends, and its connections with it.
    pub fn close(&self, replica: usize) {
        self.0.replicas.lock().unwrap()[replica] = None;
        self.cut(|link| link.replica == replica);
    }

    /// Breaks the connections of a client; both ends are told.
    pub fn cut_client(&self, client: usize) {
        self.cut(|link| link.client == client);
    }

    fn cut(&self, which: impl Fn(&Link) -> bool) {
        self.0.links.lock().unwrap().retain(|link| {
            let cut = which(link);
            if cut {
                link.task.abort();
            }
            !cut && !link.task.is_finished()
        });
    }

    /// Nothing passes on the present connections of a client any more, and nobody is told.
    pub fn lose(&self, client: usize) {
        let links = self.0.links.lock().unwrap();
        links.iter().filter(|l| l.client == client).for_each(|link| {
            link.lost.send_replace(true);
        });
    }

    pub async fn connect(&self, client: usize, replica: usize) -> io::Result<DuplexStream> {
        let delay = self.delay(&mut self.0.random.lock().unwrap());
        sleep(delay).await;
        if self.0.weather.borrow().parted.contains(&client) {
            sleep(Duration::from_secs(2)).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        let accept = self.0.replicas.lock().unwrap()[replica].clone();
        let (near, left) = duplex(BUFFER);
        let (right, far) = duplex(BUFFER);
        accept
            .and_then(|accept| accept.send(Ok(far)).ok())
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        let lost = watch::Sender::new(false);
        let ((left_read, left_write), (right_read, right_write)) = (tokio::io::split(left), tokio::io::split(right));
        // Each direction has its own luck, so that none depends on how busy another is.
        let luck = || self.0.random.lock().unwrap().fork();
        let there = self
            .clone()
            .carry(client, left_read, right_write, lost.subscribe(), luck());
        let back = self
            .clone()
            .carry(client, right_read, left_write, lost.subscribe(), luck());
        let task = tokio::spawn(futures::future::join(there, back)).abort_handle();
        self.0.links.lock().unwrap().push(Link {
            client,
            replica,
            lost,
            task,
        });
        Ok(near)
    }

    /// How long the next packet takes.
    fn delay(&self, random: &mut Random) -> Duration {
        let weather = self.0.weather.borrow();
        let mut delay = Duration::from_millis(u64::from(1 + random.below(weather.latency)));
        let mut again = RETRANSMISSION;
        while weather.loss > 0 && again < RETRANSMISSION * 16 && random.one_in(weather.loss) {
            delay += again;
            again *= 2;
        }
        delay
    }

    /// One direction of a link.
    async fn carry(
        self,
        client: usize,
        mut from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
        mut lost: watch::Receiver<bool>,
        mut random: Random,
    ) {
        let (sender, mut packets) = mpsc::channel::<(Instant, Vec<u8>)>(PACKETS);
        let net = self.clone();
        let take = async move {
            let mut last = Instant::now();
            loop {
                let mut packet = vec![0; 4 << 10];
                let Ok(size @ 1..) = from.read(&mut packet).await else {
                    return;
                };
                packet.truncate(size);
                last = last.max(Instant::now() + net.delay(&mut random));
                if sender.send((last, packet)).await.is_err() {
                    return;
                }
            }
        };
        let deliver = async move {
            let mut weather = self.0.weather.subscribe();
            while let Some((due, packet)) = packets.recv().await {
                sleep_until(due).await;
                let _ = weather.wait_for(|weather| !weather.parted.contains(&client)).await;
                if *lost.borrow_and_update() {
                    std::future::pending::<()>().await;
                }
                if to.write_all(&packet).await.is_err() {
                    return;
                }
            }
            if *lost.borrow_and_update() {
                std::future::pending::<()>().await;
            }
            let _ = to.shutdown().await;
        };
        tokio::join!(take, deliver);
    }
}
