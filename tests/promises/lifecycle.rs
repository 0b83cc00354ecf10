//! How a balancer starts, says that it is well, and ends.

use lookaside_tests::{Balancer, Follower, eventually, service, soon};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;

const ONE: &str = "10.0.0.1:80";

fn greeter() -> String {
    service("greeter.test", &[(ONE.parse().unwrap(), 1.0)])
}

#[tokio::test]
async fn the_admin_port_tells_life_readiness_and_metrics() {
    let balancer = Balancer::start(&greeter()).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    follower.next_list().await;
    assert_eq!(balancer.get("/livez").await.0, 200);
    assert_eq!(balancer.get("/readyz").await.0, 200);
    let (status, metrics) = balancer.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"lookaside_backends{service="greeter.test",state="serving"} 1"#,
        "lookaside_config_last_reload_successful 1",
        "lookaside_build_info",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
    balancer.stop().await;
}

#[tokio::test]
async fn clients_report_and_the_balancer_counts() {
    let balancer = Balancer::start(&greeter()).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    follower.next_list().await;
    let stats = lookaside_proto::lb_v1::ClientStats {
        num_calls_started: 7,
        num_calls_finished: 5,
        ..Default::default()
    };
    follower.report(stats).await;
    let seen = soon("the counts in /metrics", async {
        loop {
            let (_, metrics) = balancer.get("/metrics").await;
            let started = metrics
                .lines()
                .any(|l| l.contains("started") && l.contains("greeter.test") && l.ends_with(" 7"));
            if started {
                return true;
            }
        }
    });
    assert!(seen.await);
    balancer.stop().await;
}

#[tokio::test]
async fn health_is_on_the_main_port() {
    use lookaside_proto::health_v1::HealthCheckRequest;
    use lookaside_proto::health_v1::health_check_response::ServingStatus;
    use lookaside_proto::health_v1::health_client::HealthClient;

    let balancer = Balancer::start(&greeter()).await;
    let channel = Channel::from_shared(format!("http://{}", balancer.addr())).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for name in ["", "grpc.lb.v1.LoadBalancer"] {
        let request = HealthCheckRequest {
            service: name.to_owned(),
        };
        let mut statuses = health.watch(request).await.unwrap().into_inner();
        // The first status may still be that of the start.
        let serving = soon("SERVING", async {
            while let Some(response) = statuses.message().await.unwrap() {
                if response.status() == ServingStatus::Serving {
                    return true;
                }
            }
            false
        });
        assert!(serving.await, "{name}");
    }
    // The health service answers on a connection that also has a stream.
    let mut follower = Follower::open_on(channel, "greeter.test").await.unwrap();
    follower.next_list().await;
    balancer.stop().await;
}

#[tokio::test]
async fn reflection_lists_what_is_served_and_nothing_else() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let balancer = Balancer::start(&greeter()).await;
    let channel = Channel::from_shared(format!("http://{}", balancer.addr())).unwrap();
    let mut reflection = ServerReflectionClient::new(channel.connect().await.unwrap());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut responses = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let response = soon("an answer", responses.message()).await.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = response.unwrap().message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
    assert!(
        names.contains(&"grpc.lb.v1.LoadBalancer".to_owned()),
        "{names:?}"
    );
    assert!(
        names.contains(&"grpc.health.v1.Health".to_owned()),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.contains("Greeter")),
        "{names:?}"
    );
    balancer.stop().await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_refuses_new_ones() {
    let balancer = Balancer::start(&greeter()).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    follower.next_list().await;
    let addr = balancer.addr();
    balancer.begin_stop();
    let end = follower.next().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    balancer.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_hundred_streams_on_one_connection_all_follow() {
    let balancer = Balancer::start(&greeter()).await;
    let channel = Channel::from_shared(format!("http://{}", balancer.addr())).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut followers = Vec::new();
    for _ in 0..100 {
        let mut follower = Follower::open_on(channel.clone(), "greeter.test")
            .await
            .unwrap();
        follower.next_list().await;
        followers.push(follower);
    }
    balancer.edit(&service(
        "greeter.test",
        &[
            (ONE.parse().unwrap(), 1.0),
            ("10.0.0.2:80".parse().unwrap(), 1.0),
        ],
    ));
    for follower in &mut followers {
        assert_eq!(follower.next_list().await.0.len(), 2);
    }
    balancer.stop().await;
}

#[tokio::test]
async fn restart_required_is_told_and_the_rest_applied() {
    let balancer = Balancer::start(&greeter()).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    follower.next_list().await;
    let moved = "[balancer]\nlisten = \"127.0.0.1:1\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let two = service(
        "greeter.test",
        &[
            (ONE.parse().unwrap(), 1.0),
            ("10.0.0.2:80".parse().unwrap(), 1.0),
        ],
    );
    balancer.edit_whole(&format!("{moved}{two}"));
    assert_eq!(follower.next_list().await.0.len(), 2);
    let (_, metrics) = balancer.get("/metrics").await;
    assert!(
        metrics.contains("lookaside_config_restart_required 1"),
        "{metrics}"
    );
    balancer.stop().await;
}

#[tokio::test]
async fn the_config_file_may_vanish() {
    let balancer = Balancer::start(&greeter()).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    follower.next_list().await;
    let text = std::fs::read_to_string(balancer.config()).unwrap();
    std::fs::remove_file(balancer.config()).unwrap();
    eventually("the file is gone", || !balancer.config().exists()).await;
    balancer.edit_whole(&text.replace("weight = 1", "weight = 0"));
    assert!(matches!(
        follower.next().await.unwrap(),
        lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType::FallbackResponse(_)
    ));
    balancer.stop().await;
}

/// Whether it is ready, and says these lines and which configuration is applied.
async fn ready(balancer: &Balancer, lines: &[&str]) {
    let (status, body) = balancer.get("/readyz").await;
    let mut said: Vec<&str> = body.lines().collect();
    said.retain(|line| !line.starts_with("configuration "));
    assert_eq!((status, said), (200, [&["ok"], lines].concat()), "{body}");
    assert!(body.contains("\nconfiguration "), "{body}");
}

#[tokio::test]
async fn a_service_that_is_added_takes_no_readiness_away() {
    let balancer = Balancer::start(&greeter()).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    follower.next_list().await;
    ready(&balancer, &[]).await;
    // Nobody registers for it, so it waits for seconds.
    let open = "[[service]]\nname = \"new.test\"\nregister = { cidrs = [\"10.0.0.0/8\"] }\n";
    balancer.edit(&format!("{}{open}", greeter()));
    balancer.reloads("applied", 1).await;
    ready(&balancer, &["warming: new.test"]).await;
    let ready = |service| format!("service_ready{{service=\"{service}\"}}");
    balancer.metric(&ready("new.test"), "0").await;
    balancer.metric(&ready("greeter.test"), "1").await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_start_on_an_empty_file_is_ready_with_its_first_service() {
    let balancer = Balancer::start("").await;
    let (status, body) = balancer.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("--allow-empty"), "{body}");
    balancer.edit(&greeter());
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    follower.next_list().await;
    ready(&balancer, &[]).await;
    balancer.stop().await;
}
