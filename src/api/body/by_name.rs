//! Reads structs by the names of their fields alone.
//!
//! What serde derives for a struct also takes a list, by position, at any depth: a body would mean something that no
//! document says, and something else when a field is added. This stands around a deserializer and hides that. It does not
//! reach what serde puts by before it reads it, as for a flattened struct.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// A deserializer, or a part of one, below which no struct is read from a list.
pub(super) struct ByName<T>(pub(super) T);

/// A visitor whose nested values are read by name; `struct_only` when it must not see a list itself.
struct Named<V> {
    visitor: V,
    struct_only: bool,
}

impl<V> Named<V> {
    fn any(visitor: V) -> Self {
        let struct_only = false;
        Self { visitor, struct_only }
    }

    fn fields(visitor: V) -> Self {
        let struct_only = true;
        Self { visitor, struct_only }
    }
}

macro_rules! forward {
    ($($method:ident($($argument:ident: $kind:ty),*) as $reading:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($argument,)* Named::$reading(visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ByName<D> {
    type Error = D::Error;

    forward! {
        deserialize_any() as any;
        deserialize_bool() as any;
        deserialize_i8() as any;
        deserialize_i16() as any;
        deserialize_i32() as any;
        deserialize_i64() as any;
        deserialize_u8() as any;
        deserialize_u16() as any;
        deserialize_u32() as any;
        deserialize_u64() as any;
        deserialize_f32() as any;
        deserialize_f64() as any;
        deserialize_char() as any;
        deserialize_str() as any;
        deserialize_string() as any;
        deserialize_bytes() as any;
        deserialize_byte_buf() as any;
        deserialize_option() as any;
        deserialize_unit() as any;
        deserialize_unit_struct(name: &'static str) as any;
        deserialize_newtype_struct(name: &'static str) as any;
        deserialize_seq() as any;
        deserialize_tuple(len: usize) as any;
        deserialize_tuple_struct(name: &'static str, len: usize) as any;
        deserialize_map() as any;
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) as fields;
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) as any;
        deserialize_identifier() as any;
        deserialize_ignored_any() as any;
    }
}

macro_rules! visit_scalars {
    ($($method:ident: $kind:ty;)*) => {$(
        fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Named<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    visit_scalars! {
        visit_bool: bool;
        visit_i64: i64;
        visit_u64: u64;
        visit_f64: f64;
        visit_str: &str;
        visit_borrowed_str: &'de str;
        visit_string: String;
        visit_bytes: &[u8];
        visit_borrowed_bytes: &'de [u8];
        visit_byte_buf: Vec<u8>;
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(ByName(value))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(ByName(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        if self.struct_only {
            return Err(A::Error::custom("expected an object, not a list"));
        }
        self.visitor.visit_seq(ByName(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(ByName(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(ByName(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for ByName<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(ByName(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for ByName<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(ByName(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for ByName<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(ByName(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for ByName<A> {
    type Error = A::Error;
    type Variant = ByName<A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let (value, variant) = self.0.variant_seed(seed)?;
        Ok((value, ByName(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for ByName<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.0.newtype_variant_seed(ByName(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Named::any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Named::fields(visitor))
    }
}
