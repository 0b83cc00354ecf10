//! The `process_*` metrics, as every Prometheus client names them.

use procfs::process::{LimitValue, Process};
use procfs::{boot_time_secs, page_size, ticks_per_second};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads what the kernel says of this process, each time it is asked. What cannot be
/// read is left out.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// The metrics of one moment.
struct Now {
    cpu_seconds: Option<f64>,
    gauges: Vec<(&'static str, &'static str, f64)>,
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = Now::read();
        if let Some(seconds) = now.cpu_seconds {
            let counter = ConstCounter::new(seconds);
            let help = "Total user and system CPU time spent in seconds";
            let family = encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                counter.metric_type(),
            )?;
            counter.encode(family)?;
        }
        for (name, help, value) in now.gauges {
            let gauge = ConstGauge::new(value);
            let family = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(family)?;
        }
        Ok(())
    }
}

impl Now {
    fn read() -> Self {
        let mut now = Self {
            cpu_seconds: None,
            gauges: Vec::new(),
        };
        let Ok(process) = Process::myself() else {
            return now;
        };
        let mut gauge = |name, help, value| now.gauges.push((name, help, value));
        if let Ok(stat) = process.stat() {
            let ticks = ticks_per_second() as f64;
            now.cpu_seconds = Some((stat.utime + stat.stime) as f64 / ticks);
            gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes",
                (stat.rss * page_size()) as f64,
            );
            gauge(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes",
                stat.vsize as f64,
            );
            if let Ok(boot) = boot_time_secs() {
                gauge(
                    "process_start_time_seconds",
                    "Start time of the process since unix epoch in seconds",
                    boot as f64 + stat.starttime as f64 / ticks,
                );
            }
        }
        if let Ok(open) = process.fd_count() {
            gauge(
                "process_open_fds",
                "Number of open file descriptors",
                open as f64,
            );
        }
        if let Ok(limits) = process.limits() {
            let most = match limits.max_open_files.soft_limit {
                LimitValue::Value(most) => most as f64,
                LimitValue::Unlimited => f64::INFINITY,
            };
            gauge(
                "process_max_fds",
                "Maximum number of open file descriptors",
                most,
            );
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_has_memory_files_and_a_start() {
        let now = Now::read();
        assert!(now.cpu_seconds.is_some());
        let names: Vec<&str> = now.gauges.iter().map(|(name, ..)| *name).collect();
        assert_eq!(
            names,
            [
                "process_resident_memory_bytes",
                "process_virtual_memory_bytes",
                "process_start_time_seconds",
                "process_open_fds",
                "process_max_fds",
            ]
        );
        assert!(now.gauges.iter().all(|(.., value)| *value > 0.0));
    }
}
