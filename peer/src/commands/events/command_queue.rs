//! The queue of commands that a node was asked for: answers are printed in the order of the commands.

use std::collections::BTreeMap;

/// The commands that were sent and whose answers were not printed yet, in their order.
#[derive(Debug)]
pub(super) struct CommandQueue<C, A> {
    sent_count: u64,
    commands: BTreeMap<u64, SentCommand<C, A>>,
}

/// A command that was sent, and its answer while an earlier command has none.
#[derive(Debug)]
pub(super) struct SentCommand<C, A> {
    pub(super) command: C,
    pub(super) answer: Option<A>,
}

impl<C, A> CommandQueue<C, A> {
    /// Adds a command behind all others and returns its number.
    pub(super) fn push(&mut self, command: SentCommand<C, A>) -> u64 {
        self.sent_count += 1;
        self.commands.insert(self.sent_count, command);
        self.sent_count
    }

    /// Records the answer to a command, unless the command was taken out.
    pub(super) fn record_answer(&mut self, number: u64, answer: A) {
        if let Some(sent) = self.commands.get_mut(&number) {
            sent.answer = Some(answer);
        }
    }

    /// Returns a command that was not answered yet.
    pub(super) fn command(&self, number: u64) -> Option<&C> {
        self.commands.get(&number).map(|sent| &sent.command)
    }

    /// Takes out the first command if it is answered.
    pub(super) fn pop_answered(&mut self) -> Option<(C, A)> {
        let first = self.commands.first_entry().filter(|first| first.get().answer.is_some())?;
        let SentCommand { command, answer } = first.remove();
        answer.map(|answer| (command, answer))
    }

    /// Takes out all commands, answered or not.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = SentCommand<C, A>> + use<C, A> {
        // The numbers go on: an answer that comes late must meet no other command.
        std::mem::take(&mut self.commands).into_values()
    }

    /// Returns the number of commands in the queue.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }
}

impl<C, A> Default for CommandQueue<C, A> {
    fn default() -> Self {
        Self { sent_count: 0, commands: BTreeMap::new() }
    }
}

impl<C, A> SentCommand<C, A> {
    /// Returns a command without an answer.
    pub(super) const fn unanswered(command: C) -> Self {
        Self { command, answer: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_out_in_the_order_of_the_commands() {
        let mut queue = CommandQueue::default();
        let numbers: Vec<u64> = (0..4).map(|command| queue.push(SentCommand::unanswered(command))).collect();
        for nth in [2, 1] {
            queue.record_answer(numbers[nth], "done");
            assert_eq!(queue.pop_answered(), None, "the first has no answer");
        }
        queue.record_answer(numbers[0], "error");
        assert_eq!(queue.pop_answered(), Some((0, "error")));
        assert_eq!(queue.pop_answered(), Some((1, "done")));
        // With another node the answered one keeps its answer.
        let sent: Vec<_> = queue.take_all().collect();
        assert_eq!((queue.len(), sent.len()), (0, 2));
        let again: Vec<u64> = sent.into_iter().map(|command| queue.push(command)).collect();
        queue.record_answer(numbers[3], "for the node before");
        assert_eq!(queue.pop_answered(), Some((2, "done")));
        assert_eq!(queue.pop_answered(), None);
        queue.record_answer(again[1], "done");
        assert_eq!(queue.pop_answered(), Some((3, "done")));
    }
}
