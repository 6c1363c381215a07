use std::io::{Read, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").expect("PORT is set");
    let body = "hello from rust\n";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
        body.len(),
        body
    );
    for peer in TcpListener::bind(format!("0.0.0.0:{port}"))?.incoming() {
        let mut peer = peer?;
        let mut request = [0; 4096];
        // One client's trouble is not the server's.
        if peer.read(&mut request).is_ok() {
            let _ = peer.write_all(answer.as_bytes());
        }
    }
    Ok(())
}
