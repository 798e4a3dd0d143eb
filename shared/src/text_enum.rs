//! Enums whose variants have texts on the wire or in messages.

/// Makes an enum from one table of its variants and their texts, with `ALL` of them, `as_str` and `from_text`.
#[macro_export]
macro_rules! text_enum {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$of_variant:meta])* $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[$attribute])*
        $visibility enum $name {
            $($(#[$of_variant])* $variant,)+
        }

        impl $name {
            /// All variants, in order.
            $visibility const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the variant's text.
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// Returns the variant with this text.
            $visibility fn from_text(text: &str) -> Option<Self> {
                Some(match text {
                    $($text => Self::$variant,)+
                    _ => return None,
                })
            }
        }
    };
}
