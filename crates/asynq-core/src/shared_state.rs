//! Values that handlers share: one of each type.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
};

type Values = HashMap<TypeId, (&'static str, Arc<dyn Any + Send + Sync>)>;

/// Values that handlers share, found by their type. In Go, such values are in the base context. Cheap to clone.
#[derive(Clone, Default)]
pub struct States(Arc<Values>);

impl States {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value. A value of the same type that was there is replaced.
    pub fn insert<S: Send + Sync + 'static>(&mut self, state: S) {
        let entry = (std::any::type_name::<S>(), Arc::new(state) as _);
        Arc::make_mut(&mut self.0).insert(TypeId::of::<S>(), entry);
    }

    /// The value of this type.
    #[must_use]
    pub fn get<S: Send + Sync + 'static>(&self) -> Option<Arc<S>> {
        let (_, state) = self.0.get(&TypeId::of::<S>())?;
        Arc::clone(state).downcast().ok()
    }

    /// Returns whether there is a value of this type.
    #[must_use]
    pub fn has<S: Send + Sync + 'static>(&self) -> bool {
        self.0.contains_key(&TypeId::of::<S>())
    }

    /// These values, and for types that have none here those of `others`.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        if self.0.is_empty() {
            return others.clone();
        }
        if others.0.is_empty() {
            return self.clone();
        }
        let mut all = others.0.as_ref().clone();
        all.extend(self.0.iter().map(|(id, state)| (*id, state.clone())));
        Self(Arc::new(all))
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.values().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_type_and_the_nearer_ones_win() {
        let (mut near, mut far) = (States::new(), States::new());
        near.insert(1_u8);
        near.insert(2_u8);
        far.insert(3_u8);
        far.insert("far");
        assert_eq!(near.get::<u8>().as_deref(), Some(&2));
        assert_eq!(near.get::<&str>(), None);
        let both = near.or(&far);
        assert_eq!(both.get::<u8>().as_deref(), Some(&2));
        assert_eq!(both.get::<&str>().as_deref(), Some(&"far"));
        assert_eq!(States::new().or(&far).get::<u8>().as_deref(), Some(&3));
    }
}
