//! The codes of refusals about rooms, and their texts in Portuguese. The English ones are those of [`RoomRefusal`].

use shared::tracker::TrackerErrorCode;

use crate::membership::RoomRefusal;

/// Returns the code that programs read.
pub(super) const fn code(refusal: &RoomRefusal) -> TrackerErrorCode {
    match refusal {
        RoomRefusal::NoSuchRoom | RoomRefusal::NoSuchMember(_) | RoomRefusal::NoSuchUser(_) => {
            TrackerErrorCode::NotFound
        }
        RoomRefusal::NameTaken(_) => TrackerErrorCode::UserExists,
        RoomRefusal::UnusableName(_) => TrackerErrorCode::BadRequest,
        RoomRefusal::NeedsPassword | RoomRefusal::WrongPassword => TrackerErrorCode::AuthFailed,
        RoomRefusal::CutIsSet => TrackerErrorCode::Stale,
        RoomRefusal::RoomFull
        | RoomRefusal::TooManyRooms
        | RoomRefusal::TooManyOwnRooms
        | RoomRefusal::TooManyRecords
        | RoomRefusal::TooManyStandings => TrackerErrorCode::TooLarge,
        RoomRefusal::TooOften { .. } => TrackerErrorCode::RateLimited,
        RoomRefusal::NotAMember
        | RoomRefusal::AlreadyMember(_)
        | RoomRefusal::Banned
        | RoomRefusal::UserBanned(_)
        | RoomRefusal::NeedsInvitation
        | RoomRefusal::NeedsModerator
        | RoomRefusal::NeedsOwner
        | RoomRefusal::OwnerStays(_)
        | RoomRefusal::NoKey(_)
        | RoomRefusal::NoSigningKey => TrackerErrorCode::Forbidden,
    }
}

/// Returns the text in Portuguese.
pub(super) fn portuguese(refusal: &RoomRefusal) -> String {
    let fixed = match refusal {
        RoomRefusal::NameTaken(name) => return format!("a sala {name} já existe: escolha outro nome"),
        RoomRefusal::UnusableName(name) => {
            return format!(
                "o nome de sala {name} não serve: ele começa com letra ou dígito, sem dois pontos seguidos"
            );
        }
        RoomRefusal::NoSuchMember(user) => return format!("{user} não está na sala"),
        RoomRefusal::NoSuchUser(user) => return format!("não existe o usuário {user}"),
        RoomRefusal::AlreadyMember(user) => return format!("{user} já está na sala"),
        RoomRefusal::UserBanned(user) => return format!("{user} está banido desta sala"),
        RoomRefusal::OwnerStays(user) => return format!("{user} é o dono da sala"),
        RoomRefusal::NoKey(user) => return format!("{user} não tem chave e por isso não pode ter direitos"),
        RoomRefusal::NoSuchRoom => "a sala não existe",
        RoomRefusal::NotAMember => "você não está nesta sala",
        RoomRefusal::Banned => "você está banido desta sala",
        RoomRefusal::NeedsInvitation => "para entrar nesta sala é preciso um convite do dono ou de um moderador",
        RoomRefusal::NeedsPassword => "esta sala tem senha: envie-a em \"senha\"",
        RoomRefusal::WrongPassword => "Senha da sala incorreta",
        RoomRefusal::NeedsModerator => "só o dono da sala e os moderadores podem fazer isso",
        RoomRefusal::NeedsOwner => "só o dono da sala pode fazer isso",
        RoomRefusal::CutIsSet => "isso já foi definido",
        RoomRefusal::RoomFull => "a sala está cheia",
        RoomRefusal::TooManyRooms => "não há espaço para mais salas neste servidor",
        RoomRefusal::TooManyOwnRooms => "você está em salas demais",
        RoomRefusal::TooManyRecords => "a sala mudou vezes demais: crie outra",
        RoomRefusal::TooManyStandings => "a sala tem convites e banimentos demais",
        RoomRefusal::TooOften { .. } => "mudanças demais nos últimos tempos",
        RoomRefusal::NoSigningKey => "a chave deste servidor não permite salas",
    };
    fixed.to_owned()
}
