//! Shared frames onto a socket, several in one write.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures::Sink;
use tokio::{io::AsyncWrite, net::tcp::OwnedWriteHalf};

use crate::message::Message;

/// How many frames go into one `writev`: Linux takes up to 1,024 (`UIO_MAXIOV`), and past some dozens a call gains nothing.
const BATCH: usize = 64;

/// How many bytes of several frames go into one write of a byte stream that takes one buffer at a time, as a stream of HTTP/2
/// does: in each DATA frame one small message would cost its readers more, and some end the connection over too many of
/// them (h2 0.4.16 and later).
const JOINED: usize = 4096;

/// Writes [`Message`]s to one client.
///
/// It is an ordinary [`Sink`]. A room writes to it in a faster way: whole batches of shared frames, tried in place on the
/// socket without waking a task.
pub struct FrameSink {
    io: WriteHalf,
    /// What is under way; boxed, because an idle connection has nothing.
    rest: Option<Box<Rest>>,
}

#[derive(Default)]
struct Rest {
    /// What the socket did not take of a frame that it began.
    partial: Bytes,
    /// Messages between `start_send` and the end of `poll_flush`; the room's own way of writing leaves it empty.
    queue: VecDeque<Message>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// How many of its messages are done with.
    pub(crate) taken: usize,
    pub(crate) full: bool,
    /// The socket took some bytes.
    pub(crate) moved: bool,
}

enum WriteHalf {
    Tcp(OwnedWriteHalf),
    /// Boxed, so that a TCP sink, the common one, is no larger for it.
    Boxed(Box<Buffered>),
}

struct Buffered {
    io: Pin<Box<dyn AsyncWrite + Send>>,
    /// Bytes were handed to a byte stream with a buffer of its own (TLS) and not flushed out of it yet.
    unflushed: bool,
}

impl FrameSink {
    pub(super) fn tcp(io: OwnedWriteHalf) -> Self {
        Self::new(WriteHalf::Tcp(io))
    }

    pub(super) fn boxed(io: Pin<Box<dyn AsyncWrite + Send>>) -> Self {
        Self::new(WriteHalf::Boxed(Box::new(Buffered { io, unflushed: false })))
    }

    fn new(io: WriteHalf) -> Self {
        Self { io, rest: None }
    }

    /// Has it write this in front of all messages.
    pub(super) fn behind(mut self, head: Bytes) -> Self {
        if !head.is_empty() {
            self.rest.get_or_insert_default().partial = head;
        }
        self
    }

    /// Drops it without ending the stream, for a client that is gone: what reads from the socket closes it a moment later.
    pub(crate) fn discard(self) {
        if let WriteHalf::Tcp(io) = self.io {
            io.forget();
        }
    }

    /// Writes what is left over and then as many of `batch` as the socket takes now.
    ///
    /// The last of the messages that it took may be out in part: its rest is kept. Where the socket is full, the context's
    /// waker is told when it is not.
    pub(crate) fn write_batch(&mut self, cx: &mut Context<'_>, batch: &[Message]) -> io::Result<Written> {
        let (mut taken, mut moved) = (0, false);
        loop {
            let rest = batch.get(taken..).unwrap_or_default();
            if self.partial().is_empty() && rest.is_empty() {
                return Ok(Written { taken, full: self.poll_flush_io(cx)?.is_pending(), moved });
            }
            match self.poll_write(cx, rest)? {
                Poll::Ready(written) => {
                    taken += self.account(written, rest)?;
                    moved = true;
                }
                Poll::Pending => return Ok(Written { taken, full: true, moved }),
            }
        }
    }

    /// One write of the left-over and the first frames of `rest`.
    fn poll_write(&mut self, cx: &mut Context<'_>, rest: &[Message]) -> io::Result<Poll<usize>> {
        let mut slices = [IoSlice::new(&[]); BATCH];
        let partial = self.rest.as_ref().map_or(&[][..], |rest| &rest.partial);
        let left_over = (!partial.is_empty()).then_some(partial);
        let frames = left_over.into_iter().chain(rest.iter().map(|message| &**message.frame()));
        let mut count = 0;
        for (slot, frame) in slices.iter_mut().zip(frames) {
            *slot = IoSlice::new(frame);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        match &mut self.io {
            WriteHalf::Tcp(io) => poll_write_tcp(io, cx, slices),
            WriteHalf::Boxed(buffered) => {
                buffered.unflushed = true;
                transpose(match slices {
                    [first, second, ..] if !buffered.io.is_write_vectored() && first.len() + second.len() <= JOINED => {
                        let mut joined = [0; JOINED];
                        buffered.io.as_mut().poll_write(cx, join(slices, &mut joined))
                    }
                    _ => buffered.io.as_mut().poll_write_vectored(cx, slices),
                })
            }
        }
    }

    /// Counts `written` bytes off the left-over and the frames of `rest`; returns how many frames are done with.
    fn account(&mut self, mut written: usize, rest: &[Message]) -> io::Result<usize> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if let Some(rest) = &mut self.rest {
            let of_partial = written.min(rest.partial.len());
            rest.partial.advance(of_partial);
            written -= of_partial;
        }
        self.shrink();
        let mut done = 0;
        for message in rest {
            if written == 0 {
                break;
            }
            let length = message.frame().len();
            if written < length {
                self.rest.get_or_insert_default().partial = message.frame().slice(written..);
            }
            written = written.saturating_sub(length);
            done += 1;
        }
        Ok(done)
    }

    fn partial(&self) -> &[u8] {
        self.rest.as_ref().map_or(&[], |rest| &rest.partial)
    }

    /// Gives the memory back once nothing is under way.
    fn shrink(&mut self) {
        self.rest.take_if(|rest| rest.partial.is_empty() && rest.queue.is_empty());
    }

    fn poll_flush_io(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if let WriteHalf::Boxed(buffered) = &mut self.io
            && buffered.unflushed
        {
            if transpose(buffered.io.as_mut().poll_flush(cx))?.is_pending() {
                return Ok(Poll::Pending);
            }
            buffered.unflushed = false;
        }
        Ok(Poll::Ready(()))
    }
}

/// Tries the write itself first: a socket with room, the common case, costs one system call and no turn of the reactor.
fn poll_write_tcp(io: &OwnedWriteHalf, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> io::Result<Poll<usize>> {
    loop {
        let written = match slices {
            [one] => io.try_write(one),
            many => io.try_write_vectored(many),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if transpose(io.as_ref().poll_write_ready(cx))?.is_pending() {
                    return Ok(Poll::Pending);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return written.map(Poll::Ready),
        }
    }
}

/// The first slices that fit into the space together, one behind the other.
fn join<'a>(slices: &[IoSlice<'_>], space: &'a mut [u8; JOINED]) -> &'a [u8] {
    let mut end = 0;
    for slice in slices {
        let Some(place) = space.get_mut(end..end + slice.len()) else { break };
        place.copy_from_slice(slice);
        end += slice.len();
    }
    space.get(..end).unwrap_or_default()
}

fn transpose<T>(poll: Poll<io::Result<T>>) -> io::Result<Poll<T>> {
    match poll {
        Poll::Ready(result) => result.map(Poll::Ready),
        Poll::Pending => Ok(Poll::Pending),
    }
}

impl Sink<Message> for FrameSink {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = self.rest.as_ref().map_or(0, |rest| rest.queue.len());
        if waiting < BATCH { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        self.rest.get_or_insert_default().queue.push_back(message);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queue = self.rest.as_mut().map(|rest| std::mem::take(&mut rest.queue)).unwrap_or_default();
        let result = self.write_batch(cx, queue.make_contiguous());
        if let Ok(wrote) = &result {
            queue.drain(..wrote.taken);
            if !queue.is_empty() {
                self.rest.get_or_insert_default().queue = queue;
            }
        }
        if result?.full { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        match &mut self.io {
            WriteHalf::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            WriteHalf::Boxed(buffered) => buffered.io.as_mut().poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for FrameSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match &self.io {
            WriteHalf::Tcp(_) => "tcp",
            WriteHalf::Boxed(_) => "boxed",
        };
        f.debug_struct("FrameSink").field("io", &over).field("left_over", &self.partial().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::task::noop_waker_ref;

    use super::*;

    /// Takes one buffer at a time, as a stream of HTTP/2 does, and keeps what each write was.
    struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

    impl AsyncWrite for Writes {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn small_frames_share_a_write_where_only_one_buffer_is_taken() {
        let writes = Arc::new(Mutex::new(Vec::new()));
        let mut sink = FrameSink::boxed(Box::pin(Writes(Arc::clone(&writes))));
        let [a, b, large, c] = ["a", "b", &"x".repeat(JOINED), "c"].map(Message::text);
        let batch = [a.clone(), b.clone(), large.clone(), c.clone()];
        let written = sink.write_batch(&mut Context::from_waker(noop_waker_ref()), &batch).unwrap();
        assert_eq!((written.taken, written.full), (4, false));
        let frames = |of: &[&Message]| of.iter().flat_map(|message| message.frame().to_vec()).collect::<Vec<_>>();
        assert_eq!(*writes.lock().unwrap(), [frames(&[&a, &b]), frames(&[&large]), frames(&[&c])]);
    }
}
