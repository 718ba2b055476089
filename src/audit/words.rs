//! Closed sets of words, as records and reports write them.

/// Declares the words of a closed set, and how they are written.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$word_meta:meta])* $word:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum $name { $($(#[$word_meta])* #[serde(rename = $text)] $word,)* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$word),*];

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)* }
            }
        }
    };
}
