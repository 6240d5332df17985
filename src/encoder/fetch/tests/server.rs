//! An HTTP server with scripted faults.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;

/// What a request asks for.
pub(super) struct Request {
    /// Counted from 0.
    pub(super) number: usize,
    /// Where its range begins, if it has one.
    pub(super) from: Option<u64>,
}

/// One answer; the connection is closed after it.
pub(super) struct Reply {
    head: String,
    body: Vec<u8>,
    endless: bool,
}

impl Reply {
    pub(super) fn whole(content: &[u8]) -> Self {
        Self::new(format!("200 OK\r\nContent-Length: {}", content.len()), content)
    }

    pub(super) fn rest(content: &[u8], from: u64) -> Self {
        let rest = &content[usize::try_from(from).expect("small")..];
        let (last, total) = (content.len() - 1, content.len());
        let range = format!("Content-Range: bytes {from}-{last}/{total}");
        Self::new(format!("206 Partial Content\r\n{range}\r\nContent-Length: {}", rest.len()), rest)
    }

    /// A body without a stated length.
    pub(super) fn unmeasured(content: &[u8]) -> Self {
        Self::new("200 OK".to_owned(), content)
    }

    pub(super) fn endless() -> Self {
        Self { endless: true, ..Self::unmeasured(b"") }
    }

    pub(super) fn status(status: u16) -> Self {
        Self::new(format!("{status} Whatever\r\nLocation: /elsewhere\r\nContent-Length: 0"), b"")
    }

    fn new(head: String, body: &[u8]) -> Self {
        Self { head, body: body.to_vec(), endless: false }
    }

    /// Closes the connection after this many bytes of the body.
    pub(super) fn cut_after(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    fn write(self, mut to: TcpStream) -> std::io::Result<()> {
        write!(to, "HTTP/1.1 {}\r\nConnection: close\r\n\r\n", self.head)?;
        to.write_all(&self.body)?;
        if !self.endless {
            return Ok(());
        }
        loop {
            to.write_all(&[b'x'; 4096])?;
        }
    }
}

/// A server on a free port of this machine; it ends when it is dropped.
pub(super) struct Server {
    addr: SocketAddr,
    ranges: Arc<Mutex<Vec<Option<u64>>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (ranges, over) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let shared = (Arc::clone(&ranges), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let (ranges, over) = shared;
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.expect("a connection");
                let from = range_of(&stream);
                let number = ranges.lock().len();
                ranges.lock().push(from);
                // Some tests disconnect the client.
                let _hung_up = answer(&Request { number, from }).write(stream);
            }
        });
        Self { addr, ranges, over, thread: Some(thread) }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The range offsets of the requests so far.
    pub(super) fn ranges(&self) -> Vec<Option<u64>> {
        self.ranges.lock().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread; it is gone already when this fails.
        let _woken = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

fn range_of(stream: &TcpStream) -> Option<u64> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    range.map(|range| range.trim_end_matches('-').parse().expect("a range from a place to the end"))
}
