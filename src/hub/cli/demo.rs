//! `holdover-hub demo`: its help and its flags.

use clap::Args;

const DEMO_HELP: &str = "\
Starts an MQTT 5 broker with TLS, three agents that measure this host, and a hub, all on 127.0.0.1; cuts the
connection, kills an agent, reconnects, and compares what the agents have on disk with what arrived. Piped, it prints
plain text; NO_COLOR is honoured. Ctrl-C ends everything.

Exit status:
  0    every record is delivered or declared lost
  1    a record is silently lost, the numbers do not add up, the demo could not run, or its reader went away before the end
  2    wrong usage
  130  interrupted";

#[derive(Debug, Args)]
#[command(after_help = DEMO_HELP)]
pub struct DemoArgs {
    /// How long the show takes, about
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub seconds: u64,
    /// Keep the directory with outboxes, configurations, certificates and logs
    #[arg(long)]
    pub keep: bool,
    /// Make the broker swallow one message that it acknowledged: the demo has to fail and name it
    #[arg(long)]
    pub plant_loss: bool,
}
