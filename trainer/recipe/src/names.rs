//! Enums whose variants have names, each name from one definition.

/// Defines an enum of variants without content, with the name of each. The name is what JSON, messages and metrics say.
///
/// ```ignore
/// named_enum! {
///     /// A primary colour.
///     pub enum Colour {
///         Red = "red",
///         /// The colour of old screens.
///         Green = "green",
///     }
/// }
/// ```
///
/// The enum derives serde's traits, comparisons and `Hash`, and has
/// * `ALL`, the variants in the order of the definition,
/// * `name`, the name of a variant,
/// * `named`, the variant of a name.
///
/// Further derives stand before the enum. The calling crate depends on serde.
#[macro_export]
macro_rules! named_enum {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $enum:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $name:tt,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ::serde::Serialize, ::serde::Deserialize)]
        $visibility enum $enum {
            $($(#[$variant_attribute])* #[serde(rename = $name)] $variant,)+
        }

        impl $enum {
            /// All variants, in the order of their definition.
            $visibility const ALL: [$enum; [$($name),+].len()] = [$($enum::$variant),+];

            /// The name in JSON, messages and metrics.
            $visibility const fn name(self) -> &'static str {
                match self {
                    $($enum::$variant => $name,)+
                }
            }

            /// The variant of this name, if there is one.
            $visibility fn named(name: &str) -> Option<$enum> {
                $enum::ALL.into_iter().find(|variant| variant.name() == name)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    named_enum! {
        /// A colour.
        #[derive(Default)]
        enum Colour {
            Red = "red",
            /// The colour of old screens.
            #[default]
            PaleGreen = "pale-green",
        }
    }

    #[test]
    fn a_variant_is_written_read_and_found_by_its_name() {
        assert_eq!(Colour::ALL, [Colour::Red, Colour::PaleGreen]);
        assert_eq!(Colour::default(), Colour::PaleGreen);
        for colour in Colour::ALL {
            assert_eq!(serde_json::to_value(colour).unwrap(), colour.name());
            assert_eq!(serde_json::from_value::<Colour>(colour.name().into()).unwrap(), colour);
            assert_eq!(Colour::named(colour.name()), Some(colour));
        }
        assert_eq!(Colour::named("blue"), None);
    }
}
