//! A balancer that has no file descriptors left.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::{Folder, PATIENCE, Serve};

/// A connection to the admin port that is kept: a new one would need a file.
struct AdminPort(BufReader<TcpStream>);

impl AdminPort {
    fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(socket))
    }

    fn metrics(&mut self) -> String {
        let request = b"GET /metrics HTTP/1.1\r\nhost: admin\r\n\r\n";
        self.0.get_mut().write_all(request).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "it hung up");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut page = vec![0; length];
        self.0.read_exact(&mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    /// What this series has.
    fn value(&mut self, series: &str) -> f64 {
        let page = self.metrics();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let line = line.unwrap_or_else(|| panic!("no {series} in\n{page}"));
        line.parse().unwrap()
    }

    /// Waits until this counter has grown by this much.
    fn wait_for_more(&mut self, series: &str, by: f64) {
        let (before, began) = (self.value(series), Instant::now());
        while self.value(series) < before + by {
            assert!(
                began.elapsed() < PATIENCE,
                "{series} stays below {before} + {by}"
            );
        }
    }
}

const NO_FILE: &str = "lookaside_own_faults_total{reason=\"file_descriptors\"}";

#[test]
fn a_balancer_without_files_takes_no_backend_for_unhealthy() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::with(&format!(
        r#"
        [balancer]
        listen = "127.0.0.1:0"
        shutdown = "100ms"
        [admin]
        listen = "127.0.0.1:0"
        metrics_interval = "0s"

        [[service]]
        name = "greeter.test"
        health = {{ kind = "tcp", interval = "100ms", timeout = "100ms", unhealthy_threshold = 1 }}
        backends = [{{ address = "{}" }}]
        "#,
        backend.local_addr().unwrap()
    ));
    let log = folder.path("log");
    let serve = Serve::start(&folder, &[], File::create(&log).unwrap());
    let mut admin = AdminPort::connect(serve.admin);
    let healthy = "lookaside_health_probes_total{kind=\"tcp\",result=\"good\"}";
    admin.wait_for_more(healthy, 1.0);

    let pid = Pid::from_child(&serve.child);
    let few = Rlimit {
        current: Some(3),
        ..getrlimit(Resource::Nofile)
    };
    let usual = prlimit(Some(pid), Resource::Nofile, few).unwrap();
    admin.wait_for_more(NO_FILE, 3.0);
    prlimit(Some(pid), Resource::Nofile, usual).unwrap();
    admin.wait_for_more(healthy, 1.0);

    assert_eq!(serve.end(), Some(0));
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(
        log.contains("no file descriptors left; raise its limit"),
        "{log}"
    );
    assert!(!log.contains("not healthy"), "{log}");
}
