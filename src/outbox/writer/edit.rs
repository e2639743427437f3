//! A change of a note that belongs to a run: it is made with the commit that stores the run, or not at all.

use crate::outbox::Outbox;

/// Of a note that is edited; what is beyond is not noted.
const MAX_WORDS: usize = 100;

/// Words of a note that are there from now on (`true`), or no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub note: &'static str,
    pub words: Vec<(String, bool)>,
}

impl Edit {
    pub(super) fn apply(&self, outbox: &mut Outbox) {
        let note = outbox.note(self.note).unwrap_or_default().to_owned();
        let mut words: Vec<&str> = note.split(' ').filter(|word| !word.is_empty()).collect();
        for (word, there) in &self.words {
            words.retain(|known| known != word);
            if *there && words.len() < MAX_WORDS {
                words.push(word);
            }
        }
        outbox.set_note(self.note, &words.join(" "));
    }
}
