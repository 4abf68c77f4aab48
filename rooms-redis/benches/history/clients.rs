//! The clients: many connections in one process, which is told what to do line by line.

use std::{net::SocketAddr, time::Instant};

use futures::{StreamExt as _, stream};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin, stdin},
    net::TcpStream,
};

/// Connections that are being made at a time.
const AT_ONCE: usize = 128;

pub(crate) struct Client {
    socket: BufReader<TcpStream>,
    pub(crate) room: String,
    /// Where it stands.
    pub(crate) position: String,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, room: String, since: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_all(format!("{room} {since}\n").as_bytes()).await.unwrap();
        let mut client = Self { socket: BufReader::with_capacity(2048, socket), room, position: String::new() };
        let welcome = client.next().await.expect("a welcome");
        assert!(since.is_empty() || welcome.contains("\"recovered\":true"), "{welcome}");
        client.position = field(&welcome, "position").expect("a position");
        client
    }

    /// The next text; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            let first = self.socket.read_u8().await.ok()?;
            let length = match self.socket.read_u8().await.ok()? {
                126 => usize::from(self.socket.read_u16().await.ok()?),
                length => usize::from(length),
            };
            let mut text = vec![0; length];
            self.socket.read_exact(&mut text).await.ok()?;
            if first == 0x81 {
                return String::from_utf8(text).ok();
            }
        }
    }

    /// Takes so many messages of the history.
    pub(crate) async fn take(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let text = self.next().await.expect("a message");
            if let Some(position) = field(&text, "offset") {
                self.position = position;
                left -= 1;
            }
            assert!(!text.contains("\"resync\""), "{text}");
        }
    }

    async fn end(&mut self) {
        while self.next().await.is_some() {}
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("\"{name}\":\""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// `<connections> <rooms> <address>..`: joins and says `joined`; then for each line `<messages> <address>..` waits for the
/// end of all connections, comes back there, and says how many milliseconds that took until all had all.
pub(crate) async fn run(arguments: &[String]) {
    let (count, rooms) = (arguments[0].parse().unwrap(), arguments[1].parse::<usize>().unwrap());
    let place = |number: usize| (number % 2, format!("post:{}", number / 2 % rooms));
    let mut addresses: Vec<SocketAddr> = arguments[2..].iter().map(|text| text.parse().unwrap()).collect();
    let joins = (0..count).map(|number| {
        let (node, room) = place(number);
        Client::connect(addresses[node], room, "")
    });
    let mut clients: Vec<Client> = stream::iter(joins).buffered(AT_ONCE).collect().await;
    println!("joined");
    let mut lines = BufReader::new(stdin()).lines();
    while let Some((messages, next)) = order(&mut lines).await {
        for client in &mut clients {
            client.end().await;
        }
        println!("cut");
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("go"));
        addresses = next;
        let start = Instant::now();
        let back = clients.drain(..).enumerate().map(|(number, client)| {
            let address = addresses[number % 2];
            async move {
                let mut back = Client::connect(address, client.room, &client.position).await;
                back.take(messages).await;
                back
            }
        });
        let back: Vec<Client> = stream::iter(back).buffered(AT_ONCE).collect().await;
        println!("{}", start.elapsed().as_millis());
        clients = back;
    }
}

async fn order(lines: &mut Lines<BufReader<Stdin>>) -> Option<(usize, Vec<SocketAddr>)> {
    let line = lines.next_line().await.unwrap()?;
    let mut words = line.split(' ');
    let messages = words.next()?.parse().ok()?;
    Some((messages, words.map(|text| text.parse().unwrap()).collect()))
}
