//! What the kernel keeps for a client that does not read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use futures::{FutureExt as _, SinkExt as _};
use rooms_core::{Limits, Message, ws};
use tokio::net::{TcpListener, TcpSocket};

/// Beyond what any kernel takes.
const MOST: usize = 64 * 1024 * 1024;

/// What a client's kernel takes, which asked for the least.
const OF_THE_CLIENT: usize = 64 * 1024;

/// How many bytes of messages go into a socket whose client does not read, the last of them perhaps in part.
async fn taken(send_buffer: Option<usize>, message: &Message) -> usize {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(4 * 1024).unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(client.connect(address), listener.accept());
    let mut limits = Limits::default();
    limits.send_buffer_bytes = send_buffer;
    let (_stream, mut sink) = ws::tcp(accepted.unwrap().0, &[], &limits).unwrap();
    let mut taken = 0;
    // Again and again, as the kernels move what they have meanwhile.
    for _ in 0..200 {
        while taken < MOST && sink.flush().now_or_never().is_some() {
            sink.start_send_unpin(message.clone()).unwrap();
            taken += message.frame().len();
        }
        tokio::task::yield_now().await;
    }
    drop(client);
    taken
}

/// Twice, as Linux doubles it for what it needs itself. `-- --nocapture` shows the figures.
#[tokio::test]
async fn a_client_that_does_not_read_costs_the_kernel_twice_the_send_buffer_at_most() {
    let standard = Limits::default().send_buffer_bytes.unwrap();
    for length in [100, 16 * 1024, 60_000] {
        let message = Message::binary(vec![7; length]);
        for send_buffer in [16 * 1024, standard] {
            let taken = taken(Some(send_buffer), &message).await;
            println!("{length} bytes a message, send_buffer {send_buffer}: {taken}");
            assert!(taken <= 2 * send_buffer + OF_THE_CLIENT + message.frame().len());
        }
        println!("{length} bytes a message, the kernel's choice: {}", taken(None, &message).await);
    }
}
