//! The certificates, read anew before each attempt to connect and on another thread: where they are may hang, and what the
//! loop does besides must go on.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{LinkError, LinkOptions};
use crate::aside::{self, Aside};
use crate::uplink::transport::tls::{self, Loaded, TlsError, VerificationTime};

/// Files that have not answered for this long make the attempt fail.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Files {
    /// At most one, or a disk that hangs would take a thread for each attempt.
    reading: Option<Aside<Result<Loaded, TlsError>>>,
    /// Until when it is waited for.
    until: Option<Instant>,
    patience: Duration,
}

impl Files {
    pub fn new() -> Self {
        Self { reading: None, until: None, patience: PATIENCE }
    }

    /// Nothing for clear text. Cancel-safe; what hangs is waited for again by the next call.
    pub async fn read(&mut self, options: &LinkOptions) -> Result<Option<Loaded>, LinkError> {
        if !options.url.tls() {
            return Ok(None);
        }
        let begin = || {
            let files = options.tls.clone();
            aside::run("certificates", move || tls::load(&files, VerificationTime::new(None)))
        };
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.patience);
        let read = timeout_at(until, self.reading.get_or_insert_with(begin)).await;
        self.until = None;
        let Ok(read) = read else {
            let why = "the certificate files do not answer; is their disk, or their server, away?";
            return Err(LinkError::Unavailable(why.to_owned()));
        };
        self.reading = None;
        match read {
            Ok(loaded) => loaded.map(Some).map_err(|error| LinkError::Config(error.to_string())),
            Err(lost) => Err(LinkError::Unavailable(format!("the certificates were not read: {lost}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::hub::link::{Link, LinkEvent};
    use crate::uplink::transport::BrokerUrl;
    use crate::uplink::transport::tls::{Roots, TlsFiles};

    fn options() -> LinkOptions {
        let url = BrokerUrl::parse("mqtts://localhost:1", false).unwrap();
        let tls = TlsFiles { roots: Roots::File("/nowhere/ca.crt".into()), identity: None };
        LinkOptions::looking(url, tls, "viewer".to_owned())
    }

    #[tokio::test]
    async fn a_link_reads_its_certificates_on_another_thread() {
        let (options, mut link) = (options(), Link::new(1));
        let event = aside::without_threads(link.next(&options)).await;
        let LinkEvent::Down { why, .. } = event else { panic!("{event:?}") };
        assert!(why.contains("gives no thread"), "{why}");
        let event = link.next(&options).await;
        let LinkEvent::Failed(LinkError::Config(why)) = event else { panic!("{event:?}") };
        assert!(why.contains("/nowhere/ca.crt"), "{why}");
    }

    #[tokio::test]
    async fn files_that_hang_fail_the_attempt_and_take_no_second_thread() {
        let (word, hung) = sync_channel::<()>(0);
        let hangs = move || Err(TlsError::Setup(format!("let go: {:?}", hung.recv())));
        let reading = Some(aside::run("hangs", hangs));
        let mut files = Files { reading, until: None, patience: Duration::from_millis(20) };
        for _ in 0..3 {
            let error = files.read(&options()).await.unwrap_err();
            assert!(matches!(&error, LinkError::Unavailable(why) if why.contains("do not answer")), "{error:?}");
        }
        drop(word);
        files.patience = Duration::from_secs(60);
        let error = files.read(&options()).await.unwrap_err();
        assert!(matches!(&error, LinkError::Config(why) if why.contains("let go")), "it was the first: {error:?}");
        let error = files.read(&options()).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/ca.crt"), "and then they are read anew: {error:?}");
    }
}
