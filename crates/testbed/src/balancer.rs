//! Connections to one port, handed to the replicas in turn, as a Service does.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Balancer of this process. Ends on drop, with its connections.
pub struct Balancer {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Accepts connections for these ports. A port that refuses is passed over.
    pub async fn start(ports: &[u16]) -> Self {
        let [port] = super::free_ports();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = listener.await.expect("a free port");
        let ports: Arc<[u16]> = ports.into();
        let task = tokio::spawn(accept(listener, ports));
        Self { port, task }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, ports: Arc<[u16]>) {
    let turn = AtomicUsize::new(0);
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let first = turn.fetch_add(1, Ordering::Relaxed);
        let ports = Arc::clone(&ports);
        connections.spawn(async move {
            let order = ports.iter().cycle().skip(first % ports.len());
            for port in order.take(ports.len()) {
                if let Ok(mut replica) = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await {
                    // The end of either side is an outage that the test makes.
                    copy_bidirectional(&mut client, &mut replica).await.ok();
                    return;
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
