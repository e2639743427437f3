//! Temperatures: the sensors of hwmon, and the thermal zones that hwmon does not show.
//!
//! Sensors are looked for at the first run and every [`SEARCH`] from then on. A sensor that cannot be read (a disk that
//! sleeps, a radio that is off) is left out of that run; all other files are read once per search. Those of the 1-Wire
//! bus are left out for good: a script can read them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::text;
use super::{Collector, CollectorSpec, Context, HostRoot, MetricSpec, ParamError, Params, Points, ProcFile};
use crate::record::{ErrorKind, RunError};

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "temperature",
    about: "temperatures, one record per sensor of hwmon and per thermal zone",
    default_schedule: "60s",
    default_on: true,
    params: &[],
    metrics: METRICS,
    build,
};

const NAME: &str = "hw.temperature";
/// No machine's sensors are more; what a driver shows beyond is left out.
const MAX_SENSORS: usize = 64;
const SEARCH: Duration = Duration::from_secs(600);
/// Chips whose every reading takes most of a second, in which the agent could do nothing else.
const SLOW: &[&str] = &["w1_slave_temp"];
/// Thousandths of a degree that a sensor can mean; drivers show others for "not connected".
const PLAUSIBLE: std::ops::RangeInclusive<i64> = -100_000..=250_000;

const METRICS: &[MetricSpec] = &[
    MetricSpec::gauge(NAME, "temperature", "Cel").is("hw.temperature", "temperature now"),
    MetricSpec::gauge(NAME, "high", "Cel")
        .is("hw.temperature.limit{hw.limit_type=high.degraded}", "above this it is too warm; absent where not told"),
    MetricSpec::gauge(NAME, "critical", "Cel")
        .is("hw.temperature.limit{hw.limit_type=high.critical}", "above this it fails or is switched off"),
];

struct Sensor {
    chip: String,
    label: String,
    input: ProcFile,
    high: Option<f64>,
    critical: Option<f64>,
}

#[derive(Default)]
struct Temperature {
    sensors: Vec<Sensor>,
    search: Option<Duration>,
}

fn build(_: &Params) -> Result<Box<dyn Collector>, ParamError> {
    Ok(Box::new(Temperature::default()))
}

impl Collector for Temperature {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        if self.search.is_none_or(|next| ctx.now.mono >= next) {
            self.sensors = find(ctx.host);
            self.search = Some(ctx.now.mono + SEARCH);
        }
        if self.sensors.is_empty() {
            let message = "this host shows no temperature sensor in /sys/class/hwmon or /sys/class/thermal";
            return Err(RunError::new(ErrorKind::Unsupported, message));
        }
        let (mut read, mut malformed) = (false, None);
        for sensor in &mut self.sensors {
            let rel = sensor.input.rel().to_owned();
            let Ok(text) = sensor.input.read(ctx.host) else { continue };
            match degrees(text) {
                Ok(celsius) => {
                    read = true;
                    let draft = out.add(NAME).tag("chip", sensor.chip.clone()).tag("sensor", sensor.label.clone());
                    draft.float("temperature", celsius).float("high", sensor.high).float("critical", sensor.critical);
                }
                Err(NoNumber) => malformed = Some(text::malformed(&rel, "thousandths of a degree", text.trim_ascii())),
            }
        }
        malformed.filter(|_| !read).map_or(Ok(()), Err)
    }
}

struct NoNumber;

/// `45000`, `-5000`. What no sensor can mean is none.
fn degrees(text: &[u8]) -> Result<Option<f64>, NoNumber> {
    let word = text.trim_ascii();
    let (sign, digits) = word.strip_prefix(b"-").map_or((1, word), |rest| (-1, rest));
    let number = text::uint(digits).ok_or(NoNumber)?;
    let signed = i64::try_from(number).ok().map(|n| n * sign).filter(|n| PLAUSIBLE.contains(n));
    Ok(signed.map(|n| n as f64 / 1e3))
}

/// All sensors, in the order of their names.
fn find(host: &HostRoot) -> Vec<Sensor> {
    let mut sensors = Vec::new();
    let mut chips = BTreeSet::new();
    for dir in host.entries("sys/class/hwmon") {
        // Drivers of old kernels keep their files in the device behind it.
        for dir in [format!("sys/class/hwmon/{dir}"), format!("sys/class/hwmon/{dir}/device")] {
            let chip = host.line(&format!("{dir}/name")).unwrap_or_else(|| "unknown".into());
            let before = sensors.len();
            if SLOW.contains(&chip.as_str()) {
                break;
            }
            sensors.extend(inputs(host, &dir).map(|n| hwmon(host, &dir, &chip, n)));
            if sensors.len() > before {
                chips.insert(text::clean(chip.as_bytes(), 64));
                break;
            }
        }
    }
    for zone in host.entries("sys/class/thermal").into_iter().filter(|name| name.starts_with("thermal_zone")) {
        let dir = format!("sys/class/thermal/{zone}");
        let kind = text::clean(host.line(&format!("{dir}/type")).unwrap_or_default().as_bytes(), 64);
        // A zone is shown as a chip of hwmon, too, under its type with `_` for `-`.
        if !chips.contains(&kind.replace('-', "_")) {
            let input = ProcFile::new(format!("{dir}/temp"));
            let chip = if kind.is_empty() { "unknown".to_owned() } else { kind };
            sensors.push(Sensor { chip, label: zone, input, high: None, critical: None });
        }
    }
    sensors.truncate(MAX_SENSORS);
    sensors
}

/// The `n` of the files `temp<n>_input`.
fn inputs(host: &HostRoot, dir: &str) -> impl Iterator<Item = u64> {
    let number = |name: &String| text::uint(name.strip_prefix("temp")?.strip_suffix("_input")?.as_bytes());
    let mut numbers: Vec<u64> = host.entries(dir).iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers.into_iter()
}

fn hwmon(host: &HostRoot, dir: &str, chip: &str, n: u64) -> Sensor {
    let text = |what: &str| host.line(&format!("{dir}/temp{n}_{what}"));
    let limit = |what: &str| degrees(text(what)?.as_bytes()).ok().flatten();
    let label = text("label").unwrap_or_else(|| format!("temp{n}"));
    Sensor {
        chip: text::clean(chip.as_bytes(), 64),
        label: text::clean(label.as_bytes(), 64),
        input: ProcFile::new(format!("{dir}/temp{n}_input")),
        high: limit("max"),
        critical: limit("crit"),
    }
}
