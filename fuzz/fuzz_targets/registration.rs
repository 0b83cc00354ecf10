//! What backends say: any bytes as a message of a registration stream, and any
//! numbers as reports. Nothing panics, what is read keeps its bounds, and no series
//! of reports gives a backend a weight that is none.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lookaside_proto::orca_v3::OrcaLoadReport;
use lookaside_proto::registration_v1::RegisterRequest;
use lookaside_proto::registration_v1::register_request::Message;
use lookaside_core::model::{BackendAddr, Labels, Weight};
use lookaside_server::registration::Claim;
use lookaside_core::weights::{
    Candidate, FEEDBACK_BOUNDS, Moment, PolicyChoice, RawReport, Report, ReportSource, Weigher,
    WeightSettings,
};
use prost::Message as _;

fuzz_target!(|input: (Vec<&[u8]>, Vec<(u8, u16, [f64; 3])>)| {
    let (messages, reports) = input;
    let mut service = Service::new();
    for message in messages {
        let Ok(request) = RegisterRequest::decode(message) else {
            continue;
        };
        match request.message {
            Some(Message::Registration(registration)) => claims(registration),
            Some(Message::Load(report)) => {
                if let Some(load) = report.load {
                    service.report(0, 1000, &load);
                }
            }
            _ => {}
        }
    }
    for (backend, after, [load, qps, eps]) in reports {
        let load = OrcaLoadReport {
            cpu_utilization: load,
            rps_fractional: qps,
            eps,
            ..OrcaLoadReport::default()
        };
        service.report(backend, after, &load);
    }
});

fn claims(message: lookaside_proto::registration_v1::Registration) {
    let peer = [10, 0, 0, 1].into();
    match Claim::read(message, peer) {
        Ok(claim) => {
            assert!(!claim.addr().ip().is_unspecified() && claim.addr().port() > 0);
            assert!(claim.weight().is_none_or(|weight| !weight.is_drained()));
            assert!(claim.labels().iter().count() <= Labels::MAX);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Three backends that are weighed by what they report.
struct Service {
    weigher: Weigher,
    settings: WeightSettings,
    candidates: Vec<Candidate>,
    now: Duration,
}

impl Service {
    fn new() -> Self {
        let addr = |host: u8| -> BackendAddr {
            let addr = std::net::SocketAddr::from(([10, 0, 0, host], 80));
            BackendAddr::new(addr).expect("an address")
        };
        let candidates = (1..=3).map(|host| Candidate {
            addr: addr(host),
            operator: Weight::ONE,
            listed: true,
            serving: true,
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let mut weigher = Weigher::default();
        weigher.track(candidates.iter().map(|candidate| (candidate.addr, None)));
        Self {
            weigher,
            settings: WeightSettings {
                policy: PolicyChoice::FEEDBACK,
                ..WeightSettings::default()
            },
            candidates,
            now: Duration::ZERO,
        }
    }

    fn report(&mut self, backend: u8, after_ms: u16, load: &OrcaLoadReport) {
        self.now += Duration::from_millis(after_ms.into());
        let now = Moment::new(self.now);
        let raw = RawReport {
            source: ReportSource::Registration,
            cpu_utilization: load.cpu_utilization,
            application_utilization: load.application_utilization,
            named: &[],
            qps: load.rps_fractional,
            eps: load.eps,
        };
        if let Ok(report) = Report::new(&raw, &[]) {
            let backend = self.candidates[usize::from(backend) % self.candidates.len()].addr;
            self.weigher.report(backend, &report, now, &self.settings);
        }
        self.weigher.eject(|_| true, &self.settings, now);
        let factors = self.weigher.weigh(&self.candidates, &self.settings, now);
        // A tenth of it while a backend comes back.
        let (least, most) = FEEDBACK_BOUNDS;
        for factor in &factors {
            assert!((0.1 * least..=most).contains(factor), "{factors:?}");
        }
        let sent = self.candidates.iter().map(|c| c.addr).zip(factors);
        self.weigher.published(sent, now);
    }
}
