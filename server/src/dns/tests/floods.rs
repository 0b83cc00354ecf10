//! That whoever asks too much takes nothing from the others.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::running::*;
use super::*;

/// A connection from 127.0.0.`last` that has had an answer.
#[cfg(target_os = "linux")]
async fn held(running: &Running, last: usize) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    let from = format!("127.0.0.{last}:0").parse().unwrap();
    socket.bind(from).unwrap();
    let mut stream = soon(socket.connect(running.addr)).await.unwrap();
    let query = asking("lb.greeter.test.", RecordType::A);
    assert_eq!(ask_tcp(&mut stream, &query).await.answers.len(), 2);
    stream
}

#[cfg(target_os = "linux")]
async fn assert_closed(stream: &mut TcpStream) {
    let end = soon(stream.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

// Only Linux has all of 127.0.0.0/8 on its loopback.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_holds_most_connections_makes_room_for_a_newcomer() {
    let running = Running::serving(&[]).await;
    let query = asking("lb.greeter.test.", RecordType::A);
    let few = held(&running, 9).await;
    let mut many = Vec::new();
    let all = config().tcp_connections as usize;
    for at in 0..all - 1 {
        many.push(held(&running, 1 + at % 4).await);
    }
    let newcomer = held(&running, 10).await;
    // The last of the four has one less; of the others the first was idle longest.
    assert_closed(&mut many[0]).await;
    let last = many.swap_remove(all - 2);
    let second = many.swap_remove(1);
    for mut stream in [few, newcomer, second, last] {
        assert_eq!(ask_tcp(&mut stream, &query).await.answers.len(), 2);
    }
    let metrics = running.metrics();
    let evicted = r#"dns_tcp_closed_total{reason="evicted"} 1"#;
    assert!(metrics.contains(evicted), "{metrics}");
}

#[tokio::test]
async fn a_query_that_is_too_long_ends_its_connection() {
    let running = Running::serving(&[]).await;
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(&4097_u16.to_be_bytes()).await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
    running.assert_well().await;
}

#[tokio::test]
async fn a_flood_gets_no_more_than_its_networks_share_and_tcp_the_rest() {
    let config = DnsConfig {
        responses_per_second: 5,
        ..config()
    };
    let running = Running::of(&config, &ADVERTISED).await;
    running.configure(&[(GREETER, &[])]);
    let mut truncated = 0;
    for _ in 0..500 {
        let reply = running.ask("lb.greeter.test.", RecordType::A).await;
        truncated += u32::from(reply.metadata.truncation);
    }
    assert!(truncated > 250, "{truncated}");
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let query = asking("lb.greeter.test.", RecordType::A);
    assert_eq!(ask_tcp(&mut stream, &query).await.answers.len(), 2);
    let metrics = running.metrics();
    let limited = format!(r#"dns_rate_limited_total{{reply="truncated"}} {truncated}"#);
    assert!(metrics.contains(&limited), "{limited} is not in\n{metrics}");
}
