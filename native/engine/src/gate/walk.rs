//! One value on its way through the lists of transformations before a gate's probes.

use super::{Decision, Gate, Scope};
use crate::bytes::ByteClasses;
use crate::transformation::TransformationContext;
use crate::transformation_tree::{Step, TransformationTree};

/// The forms of one value on the way through lists of transformations. They become values of the store only if an operator
/// is to look at them.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The first is the value itself, whose bytes are in the store.
    forms: Vec<Form>,
    /// Per form of the plan its place in `forms`: what a step leaves as it is has the same.
    places: Vec<usize>,
    /// Per place the probes to look for, behind recoding lists, behind squeezing ones and behind others.
    masks: Vec<u64>,
    looked: Vec<u64>,
    possible: Vec<u64>,
    /// A row as it was before.
    before: Vec<u64>,
}

/// One form of a value.
#[derive(Debug)]
struct Form {
    bytes: Vec<u8>,
    classes: ByteClasses,
    /// The steps that make it of the form at this place, not yet taken: they only take white space away, which a search
    /// can pass over, and capitals, of which it knows no difference.
    squeezed: Option<(usize, [Option<u16>; 2])>,
}

impl Walk {
    /// Forms of at least so many bytes are held against the letters of literals first.
    const LONG_BYTES: usize = 512;

    /// Keeps what a row is before a walk adds to it.
    pub(crate) fn remember(&mut self, row: &[u64]) {
        self.before.clear();
        self.before.extend_from_slice(row);
    }

    /// What [`Walk::remember`] kept.
    pub(crate) fn remembered(&self) -> &[u64] {
        &self.before
    }

    /// The place of a form; what no step changes has that of the value, 0.
    pub(crate) fn place(&self, form: u16) -> usize {
        self.places[usize::from(form)]
    }

    /// The bytes of a form other than the value itself, if it was made.
    pub(crate) fn form(&self, place: usize) -> Option<&[u8]> {
        let form = &self.forms[place];
        form.squeezed.is_none().then_some(&form.bytes)
    }

    /// Takes the step to a form that was put off.
    fn make(
        &mut self,
        value: &[u8],
        place: usize,
        tree: &TransformationTree,
        context: &TransformationContext,
    ) {
        let Some((input, steps)) = self.forms[place].squeezed.take() else { return };
        let mut bytes = if input == 0 { value.to_vec() } else { self.forms[input].bytes.clone() };
        for transformation in steps.into_iter().flatten() {
            if let Some(changed) = tree.apply(transformation, &bytes, context) {
                bytes = changed;
            }
        }
        self.forms[place].bytes = bytes;
    }

    /// Adds to a row the probes that may match a value or what a decision's lists make of it. Answers the bits of the
    /// places whose forms some are let in to.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn row(
        &mut self,
        value: &[u8],
        classes: ByteClasses,
        decision: &Decision,
        gate: &Gate,
        tree: &TransformationTree,
        context: &TransformationContext,
        row: &mut [u64],
    ) -> u64 {
        if decision.rest.is_empty() {
            self.look_at_value(value, classes, &decision.possible, gate, row);
            return 0;
        }
        self.begin(classes, gate);
        self.ask(0, Scope::All, &decision.possible);
        self.run(value, &decision.steps, tree, context);
        for (node, form) in &decision.rest {
            let scope = gate.node(usize::from(*node)).1;
            self.ask(*form, scope, gate.node_mask(usize::from(*node)));
        }
        self.look(value, 0, Scope::All, gate, row);
        let mut let_in = 0_u64;
        for place in 1..self.forms.len() {
            for scope in [Scope::Squeezed, Scope::All, Scope::Recoded] {
                if scope != Scope::Squeezed && self.is_asked(place, scope, gate) {
                    self.make(value, place, tree, context);
                }
                if self.look(value, place, scope, gate, row) {
                    self.make(value, place, tree, context);
                    let_in |= 1 << place.min(63);
                }
            }
        }
        let_in
    }

    fn begin(&mut self, classes: ByteClasses, gate: &Gate) {
        self.forms.clear();
        self.forms.push(Form { bytes: Vec::new(), classes, squeezed: None });
        self.places.clear();
        self.places.push(0);
        self.masks.clear();
        self.masks.resize(gate.words() * Scope::COUNT, 0);
        self.looked.resize(gate.words(), 0);
        self.possible.resize(gate.words(), 0);
    }

    /// Takes the steps.
    fn run(
        &mut self,
        value: &[u8],
        steps: &[Step],
        tree: &TransformationTree,
        context: &TransformationContext,
    ) {
        let width = self.masks.len();
        for step in steps {
            let input = self.places[usize::from(step.input)];
            let Form { bytes: own, classes, squeezed } = &self.forms[input];
            let classes = *classes;
            let form = if !tree.can_change(step.transformation, &classes.bytes(), false) {
                None
            } else if let Some((base, [first, _])) = squeezed {
                let squeezed = Some((*base, [*first, Some(step.transformation)]));
                Some(Form { bytes: Vec::new(), classes: classes.lower_case(), squeezed })
            } else if step.is_last_squeeze && classes.without_white() != classes {
                let squeezed = Some((input, [Some(step.transformation), None]));
                Some(Form { bytes: Vec::new(), classes: classes.without_white(), squeezed })
            } else {
                let bytes = if input == 0 { value } else { own };
                tree.apply(step.transformation, bytes, context).map(|bytes| {
                    let classes = ByteClasses::of(&bytes);
                    Form { bytes, classes, squeezed: None }
                })
            };
            let mut output = input;
            if let Some(form) = form {
                output = self.forms.len();
                self.forms.push(form);
                self.masks.resize(self.masks.len() + width, 0);
            }
            self.places.push(output);
        }
    }

    /// Has a form looked at for probes.
    #[inline]
    fn ask(&mut self, form: u16, scope: Scope, mask: &[u64]) {
        let place = self.places[usize::from(form)];
        let scope = if place == 0 { Scope::All } else { scope };
        let row = &mut self.masks[(place * Scope::COUNT + scope as usize) * mask.len()..];
        row.iter_mut().zip(mask).for_each(|(all, mask)| *all |= mask);
    }

    /// Adds the probes of `mask` that may match the value itself to a row.
    fn look_at_value(
        &mut self,
        value: &[u8],
        classes: ByteClasses,
        mask: &[u64],
        gate: &Gate,
        row: &mut [u64],
    ) {
        if mask.iter().all(|word| *word == 0) {
            return;
        }
        self.looked.resize(mask.len(), 0);
        gate.look(value, classes, Scope::All, &mut self.looked);
        self.looked.iter_mut().zip(mask).for_each(|(looked, mask)| *looked &= mask);
        gate.sift(&self.looked, &classes.bytes(), row);
    }

    /// Whether a form is to be looked at for probes of a scope.
    fn is_asked(&self, place: usize, scope: Scope, gate: &Gate) -> bool {
        let words = gate.words();
        let mask = &self.masks[(place * Scope::COUNT + scope as usize) * words..][..words];
        mask.iter().any(|word| *word != 0)
    }

    /// Adds the probes that were asked for and may match to a row. True when there are some.
    fn look(
        &mut self,
        value: &[u8],
        place: usize,
        scope: Scope,
        gate: &Gate,
        row: &mut [u64],
    ) -> bool {
        if !self.is_asked(place, scope, gate) {
            return false;
        }
        let words = gate.words();
        let mask = &self.masks[(place * Scope::COUNT + scope as usize) * words..][..words];
        let Form { bytes: own, classes, squeezed } = &self.forms[place];
        let text = match (place, squeezed) {
            (0, _) | (_, Some((0, _))) => value,
            (_, Some((input, _))) => &self.forms[*input].bytes,
            (_, None) => own,
        };
        let bytes = classes.bytes();
        self.possible.fill(0);
        gate.sift(mask, &bytes, &mut self.possible);
        if self.possible.iter().all(|word| *word == 0)
            || (text.len() >= Self::LONG_BYTES && !gate.may_match_any(&self.possible, &bytes))
        {
            return false;
        }
        match squeezed {
            Some(_) => gate.look_squeezing(text, *classes, &mut self.looked),
            None => gate.look(text, *classes, scope, &mut self.looked),
        }
        let mut any = 0;
        for (row, (looked, possible)) in row.iter_mut().zip(self.looked.iter().zip(&self.possible))
        {
            *row |= looked & possible;
            any |= looked & possible;
        }
        any != 0
    }
}
