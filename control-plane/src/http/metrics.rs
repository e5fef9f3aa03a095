//! `/metrics`, in the OpenMetrics text format.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use holdfast_contract::DurationRow;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::app::App;
use crate::app::counters::{PiCounters, VolumeCounters};
use crate::app::metrics::Figures;
use crate::app::pools::Pool;
use crate::app::words::Health;
use crate::error::{Error, Result};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Shows figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "system", operation_id = "metrics",
    responses((status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text",
        body = String)))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Shown(app.figures().await?)));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Error::Stored(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

#[derive(Debug)]
struct Shown(Figures);

/// Exemplars have no labels, since there are none.
type NoLabels = [(&'static str, &'static str); 0];
/// A metric's name and help, and where its value is found.
type Described<T> = (&'static str, &'static str, fn(&T) -> u64);
/// A tag's word, and where the number of its failures is found.
type Tagged = (&'static str, fn(&PiCounters) -> u64);
/// A metric's name, help and unit, and where its value is found, if the pool has one.
type Part = (&'static str, &'static str, Option<Unit>, fn(&Pool) -> Option<u64>);
/// One sample of a counter: its labels and its value.
type Sample = (Vec<(&'static str, String)>, u64);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let to = &mut encoder;
        for (name, help, of) in PI_BLOCKS {
            counter(to, name, help, self.by_direction(|write, read| [of(write), of(read)]))?;
        }
        counter(
            to,
            "holdfast_pi_errors",
            "Commands that failed a protection information check",
            self.pi_errors(),
        )?;
        let help = "Commands completed with success";
        let operations =
            self.by_volume(|volume| [("write", volume.io.write_ops), ("read", volume.io.read_ops)]);
        counter(to, "holdfast_io_operations", help, operations)?;
        let help = "Data of commands completed with success";
        let bytes =
            self.by_volume(|volume| [("write", volume.io.write_bytes), ("read", volume.io.read_bytes)]);
        counter_in(to, "holdfast_io", help, Some(&Unit::Bytes), bytes)?;
        self.durations(to)?;
        counter(to, "holdfast_digest_errors", "PDUs whose digest did not match", self.digests())?;
        let dropped = vec![(Vec::new(), self.0.incidents_dropped)];
        counter(
            to,
            "holdfast_incidents_dropped",
            "Incidents that found no room in the target's spool",
            dropped,
        )?;
        self.gauges(to)
    }
}

/// Kinds of blocks, each a metric.
const PI_BLOCKS: [Described<PiCounters>; 5] = [
    ("holdfast_pi_blocks_checked", "Blocks with a tuple on the wire, compared", |pi| pi.blocks_checked),
    ("holdfast_pi_blocks_escaped", "Blocks with a tuple that asks for no check", |pi| pi.blocks_escaped),
    ("holdfast_pi_blocks_unchecked", "Blocks with a tuple, not compared", |pi| pi.blocks_unchecked),
    ("holdfast_pi_blocks_inserted", "Blocks whose tuple the target made", |pi| pi.blocks_inserted),
    ("holdfast_pi_blocks_stripped", "Blocks whose tuple the target kept to itself", |pi| pi.blocks_stripped),
];

/// Sizes of a pool, each a metric.
const POOL_BYTES: [Described<Pool>; 3] = [
    ("holdfast_pool_capacity", "Room for blocks", |pool| pool.capacity_bytes),
    ("holdfast_pool_allocated", "Blocks in use", |pool| pool.allocated_bytes),
    ("holdfast_pool_promised", "Sizes of the volumes together", |pool| pool.promised_bytes),
];

/// What only pools in files and on devices have, each a metric.
const POOL_PARTS: [Part; 4] = [
    ("holdfast_pool_map", "Memory that the map of the pool's volumes takes", Some(Unit::Bytes), |pool| {
        Some(pool.map?.bytes)
    }),
    (
        "holdfast_pool_map_budget",
        "Most memory that the map of the pool's volumes may take",
        Some(Unit::Bytes),
        |pool| Some(pool.map?.budget_bytes),
    ),
    ("holdfast_pool_journal_blocks", "Blocks of the pool's journal", None, |pool| Some(pool.journal?.blocks)),
    (
        "holdfast_pool_journal_used_blocks",
        "Blocks of the pool's journal that a recovery would read",
        None,
        |pool| Some(pool.journal?.used),
    ),
];

impl Shown {
    fn by_volume<const N: usize>(
        &self,
        of: impl Fn(&VolumeCounters) -> [(&'static str, u64); N],
    ) -> Vec<Sample> {
        let volumes =
            self.0.counters.iter().flat_map(|(host, volumes)| volumes.iter().map(move |v| (host, v)));
        volumes
            .flat_map(|(host, volume)| {
                of(volume).map(|(operation, value)| {
                    let labels = vec![
                        ("host", host.clone()),
                        ("volume", volume.volume.clone()),
                        ("operation", operation.to_owned()),
                    ];
                    (labels, value)
                })
            })
            .collect()
    }

    fn by_direction(&self, of: impl Fn(&PiCounters, &PiCounters) -> [u64; 2]) -> Vec<Sample> {
        self.by_volume(|volume| {
            let [write, read] = of(&volume.write, &volume.read);
            [("write", write), ("read", read)]
        })
    }

    fn pi_errors(&self) -> Vec<Sample> {
        let tags: [Tagged; 5] = [
            ("guard", |pi| pi.guard_errors),
            ("app", |pi| pi.app_tag_errors),
            ("ref", |pi| pi.ref_tag_errors),
            ("storage", |pi| pi.storage_tag_errors),
            ("media", |pi| pi.media_errors),
        ];
        let mut samples = Vec::new();
        for (tag, of) in tags {
            for (mut labels, value) in self.by_direction(|write, read| [of(write), of(read)]) {
                labels.push(("tag", tag.to_owned()));
                samples.push((labels, value));
            }
        }
        samples
    }

    fn digests(&self) -> Vec<Sample> {
        let hosts = self.0.digests.iter();
        hosts
            .flat_map(|(host, errors)| {
                [("header", errors.header), ("data", errors.data)].map(|(digest, value)| {
                    (vec![("host", host.clone()), ("digest", digest.to_owned())], value)
                })
            })
            .collect()
    }

    fn durations(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Time from a command's admission to its completion, by a clock that is read once per turn of the reactor: what ends in the turn it came in counts as 0";
        let mut metric =
            to.encode_descriptor("holdfast_io_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for row in &self.0.durations {
            let labels = [("operation", row.operation.clone())];
            let count = row.counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
            metric.encode_family(&labels.as_slice())?.encode_histogram::<NoLabels>(
                seconds(row.sum_us),
                count,
                &buckets(row),
                None,
            )?;
        }
        Ok(())
    }

    fn gauges(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let figures = &self.0;
        let up = vec![(Vec::new(), u64::from(figures.target_up))];
        gauge(to, "holdfast_target_up", "Whether the target runs what is wanted", None, up)?;
        let resident = figures.target_resident_bytes.map(|bytes| (Vec::new(), bytes)).into_iter().collect();
        let help = "Resident memory of the target, its memory pools included";
        gauge(to, "holdfast_target_resident", help, Some(&Unit::Bytes), resident)?;
        let sessions = figures
            .sessions
            .iter()
            .map(|(transport, count)| (vec![("transport", (*transport).to_owned())], *count))
            .collect();
        gauge(to, "holdfast_sessions", "Open sessions", None, sessions)?;
        for (name, help, of) in POOL_BYTES {
            let samples =
                figures.pools.iter().map(|pool| (vec![("pool", pool.name.clone())], of(pool))).collect();
            gauge(to, name, help, Some(&Unit::Bytes), samples)?;
        }
        self.pool_health(to)?;
        for (name, help, unit, of) in POOL_PARTS {
            let sample = |pool: &Pool| Some((vec![("pool", pool.name.clone())], of(pool)?));
            gauge(to, name, help, unit.as_ref(), figures.pools.iter().filter_map(sample).collect())?;
        }
        Ok(())
    }

    /// One sample per pool and word; the word that holds is 1.
    fn pool_health(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let sample = |pool: &Pool, word: &str| {
            let labels = vec![("pool", pool.name.clone()), ("health", word.to_owned())];
            (labels, u64::from(pool.health.as_str() == word))
        };
        let pools = self.0.pools.iter();
        let samples =
            pools.flat_map(|pool| Health::WORDS.iter().map(move |word| sample(pool, word))).collect();
        gauge(to, "holdfast_pool_health", "Whether the pool serves: 1 at the word that holds", None, samples)
    }
}

fn counter(to: &mut DescriptorEncoder, name: &str, help: &str, samples: Vec<Sample>) -> fmt::Result {
    counter_in(to, name, help, None, samples)
}

fn counter_in(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    samples: Vec<Sample>,
) -> fmt::Result {
    let mut metric = to.encode_descriptor(name, help, unit, MetricType::Counter)?;
    for (labels, value) in samples {
        if labels.is_empty() {
            metric.encode_counter::<NoLabels, u64, u64>(&value, None)?;
        } else {
            metric.encode_family(&labels.as_slice())?.encode_counter::<NoLabels, u64, u64>(&value, None)?;
        }
    }
    Ok(())
}

fn gauge(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    samples: Vec<Sample>,
) -> fmt::Result {
    let mut metric = to.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in samples {
        if labels.is_empty() {
            metric.encode_gauge(&value)?;
        } else {
            metric.encode_family(&labels.as_slice())?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

/// Bounds in seconds with the commands of each bucket; the last has no bound, which the format writes as `+Inf`.
fn buckets(row: &DurationRow) -> Vec<(f64, u64)> {
    let bounds = row.bounds_us.iter().map(|bound| seconds(*bound)).chain(std::iter::once(f64::INFINITY));
    bounds.zip(row.counts.iter().copied().chain(std::iter::repeat(0))).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for people and Prometheus, whose numbers are doubles"
)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
